// Many PostgreSQL connections on the one backend that PGlite is.
//
// A connection has the backend to itself from its first message until the backend is idle again, which
// is the end of its transaction; the others wait their turn. Settings, role and prepared statements
// belong to a connection, as on a real server; advisory locks and temporary tables are the backend's.

import { SERVER_SETTINGS, apply, applyUnset, forgetEverything, read } from './settings.mjs'
import { Framer, fatal, int32, message, messages, renamed, statementName } from './wire.mjs'

const IDLE = 0x49 // 'I' in ReadyForQuery

const PATIENCE_MS = 30_000
const OVERDUE = fatal('55P03', `another connection's transaction has been open for ${PATIENCE_MS / 1000} s, `
  + 'and this server has one backend for all')

const COPY_IN = /^(\s*COPY\b.*?\bFROM\s+)STDIN\b/is
// The backend dies of a COPY whose data it should read itself; a statement it cannot parse is an error only.
const PREPARED_COPY = message('P', '', 'prepared_copy_from_stdin_is_not_supported_here', Buffer.alloc(2))

const COPY_FAILED =
  "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'query_canceled', MESSAGE = 'COPY from stdin failed'; END $$"

class Session {
  inbox = [] // whole messages that wait for their turn
  waitingSince = 0
  statements = new Set() // the backend's names of what it prepared
  startSettings = {} // what RESET goes back to
  settings = {} // while another session's are in force
  copy = null // a COPY FROM STDIN and its data so far
  status = IDLE // of the last ReadyForQuery
  isPreparing = true // nothing but Parse, Describe and Close since then
  isReset = false // its settings went back to PGlite's since then

  constructor(id, socket) {
    this.id = id
    this.socket = socket
  }
}

export class Gateway {
  #sessions = new Set()
  #owner = null // has a transaction open, or a query unfinished
  #settled = null // whose settings the backend has now
  #nextId = 1
  #turn = null // what is being done with the backend right now

  /** `version` is what clients are told of the server's. Where the backend dies, a promise is rejected unhandled. */
  constructor(db, version) {
    this.db = db
    this.version = version
  }

  /** Take a client's socket. */
  accept(socket) {
    const session = new Session(this.#nextId++, socket)
    const framer = new Framer()
    this.#sessions.add(session)
    socket.setNoDelay(true)
    socket.on('error', () => {}) // 'close' follows
    socket.on('close', () => {
      session.inbox = [{ type: 'X' }]
      this.#wake()
    })
    socket.on('data', (chunk) => {
      framer.push(chunk)
      for (let frame = framer.next(); frame; frame = framer.next()) {
        if (frame.type === 'encrypt') socket.write('N')
        else if (frame.type === 'cancel') socket.end() // the backend cannot be interrupted
        else if (frame.type === 'start') this.#greet(session, frame.settings)
        else this.#queue(session, frame)
      }
      this.#wake()
    })
  }

  #queue(session, frame) {
    if (!session.inbox.length) session.waitingSince = Date.now()
    session.inbox.push(frame)
  }

  /** Refuse those who have waited too long for the end of another's transaction: better an error than for ever. */
  refuseTheOverdue() {
    for (const session of this.#sessions) {
      const isOverdue = session.inbox.length && Date.now() - session.waitingSince > PATIENCE_MS
      if (!this.#owner || session === this.#owner || !isOverdue) continue
      session.inbox = []
      session.socket.end(OVERDUE)
    }
  }

  /** Hang up on everybody and do something while nobody is there; who connects meanwhile waits for it. */
  async alone(work) {
    await this.exclusively(async () => {
      this.#hangUp()
      await this.#rollBack()
      await work()
    })
  }

  #hangUp() {
    for (const session of this.#sessions) session.socket.destroy()
    this.#sessions.clear()
    this.#owner = this.#settled = null
  }

  /** Do something between two messages. */
  async exclusively(work) {
    while (this.#turn) await this.#turn.catch(() => {})
    this.#turn = work()
    try {
      return await this.#turn
    } finally {
      this.#turn = null
      setImmediate(() => this.#wake()) // after those who wait to do something exclusively
    }
  }

  get isInTransaction() {
    return this.#owner !== null
  }

  #wake() {
    if (this.#turn || !this.#next()) return
    this.exclusively(() => this.#step())
  }

  async #step() {
    const session = this.#next()
    if (session) await this.#handle(session, session.inbox.shift())
  }

  #next() {
    for (const session of this.#owner ? [this.#owner] : this.#sessions) {
      if (session.inbox.length) return session
    }
    return null
  }

  async #handle(session, frame) {
    if (frame.type === 'X') await this.#leave(session)
    else if (await this.#settle(session)) await this.#ask(session, frame)
  }

  #greet(session, { user, database, replication, options = '', ...settings }) {
    for (const [, name, value] of options.matchAll(/-c\s*([\w.]+)=(\S*)/g)) settings[name] = value
    session.startSettings = { ...SERVER_SETTINGS, ...settings }
    session.settings = { ...session.startSettings, session_authorization: user }
    const statuses = { server_version: this.version, server_encoding: 'UTF8', client_encoding: 'UTF8',
      DateStyle: 'ISO, MDY', IntervalStyle: 'postgres', TimeZone: 'GMT', integer_datetimes: 'on',
      standard_conforming_strings: 'on' }
    session.socket.write(Buffer.concat([
      message('R', int32(0)),
      ...Object.entries(statuses).map(([name, value]) => message('S', name, value)),
      message('K', int32(session.id, 0)),
      message('Z', Buffer.from('I')),
    ]))
  }

  /** Give the backend this session's settings. False where it will not have them: the session is over then. */
  async #settle(session) {
    if (this.#settled === session) return true
    if (this.#settled) this.#settled.settings = await read(this.db)
    this.#settled = null
    try {
      await apply(this.db, session.settings)
    } catch (error) {
      if (!error.code) throw error
      session.socket.end(fatal(error.code, error.message))
      this.#sessions.delete(session)
      return false
    }
    this.#settled = session
    return true
  }

  async #ask(session, frame) {
    const isPause = frame.type === 'H' && session.isPreparing && session.status === IDLE
    const reply = [await this.#reply(session, frame)]
    // A client that prepared a statement and flushed may think for long: its Sync is sent for it.
    if (isPause) reply.push(await this.#send(message('S')))
    if (frame.type !== 'P' && frame.type !== 'D' && frame.type !== 'C') session.isPreparing = false
    this.#owner = session
    for (const { type, bytes, body } of messages(Buffer.concat(reply))) {
      if (type === 'Z') this.#ready(session, body[0])
      if (type === 'C' && /^(RESET|DISCARD ALL)\0/.test(body)) session.isReset = true
      if (type === 'A') for (const other of this.#sessions) other.socket.write(bytes) // a NOTIFY is for all
      else if (!(isPause && type === 'Z') && session.socket.writable) session.socket.write(bytes)
    }
    if (!this.#owner) await this.#finish(session)
  }

  #ready(session, status) {
    session.status = status
    session.isPreparing = true
    if (status === IDLE) this.#owner = null
  }

  /** Between two transactions: what was RESET gets the value it had at the start; and the next one has its turn. */
  async #finish(session) {
    if (session.isReset) await applyUnset(this.db, session.startSettings)
    session.isReset = false
    if (this.#sessions.delete(session)) this.#sessions.add(session)
  }

  async #reply(session, frame) {
    if (frame.type === 'Q') return this.#simpleQuery(session, frame)
    if (frame.type === 'd') session.copy?.chunks.push(Buffer.from(frame.body))
    if (session.copy && 'cf'.includes(frame.type)) return this.#copyIn(session, frame.type === 'f')
    if ('dcfp'.includes(frame.type)) return Buffer.alloc(0) // data nobody asked for
    return this.#statement(session, frame)
  }

  #simpleQuery(session, frame) {
    const sql = frame.body.toString('utf8', 0, frame.body.length - 1)
    if (!COPY_IN.test(sql)) return this.#send(frame.bytes)
    session.copy = { sql: sql.replace(COPY_IN, "$1'/dev/blob'"), chunks: [] }
    const format = Buffer.from([/\bbinary\b/i.test(sql) ? 1 : 0, 0, 0])
    return message('G', format)
  }

  /** COPY FROM STDIN: the same COPY out of PGlite's device for data. A client that gave up gets an error. */
  async #copyIn(session, isFailed) {
    const { sql, chunks } = session.copy
    session.copy = null
    await this.db._handleBlob(new Blob(isFailed ? [] : chunks))
    try {
      return await this.#send(message('Q', isFailed ? COPY_FAILED : sql))
    } finally {
      await this.db._cleanupBlob()
    }
  }

  /** Names of prepared statements are a connection's own; an unnamed one must outlive the others' turns, too. */
  async #statement(session, frame) {
    const name = statementName(frame)
    if (name === null) return this.#send(frame.bytes)
    const own = `${session.id}:${name}`
    if (frame.type === 'P') {
      if (COPY_IN.test(frame.body.toString('utf8', frame.body.indexOf(0) + 1))) return this.#send(PREPARED_COPY)
      if (!name) await this.#send(message('C', Buffer.from('S'), own))
      session.statements.add(own)
    }
    if (frame.type === 'C') session.statements.delete(own)
    return this.#send(renamed(frame, own))
  }

  /** What the backend forgets when a client goes: its transaction, its statements; with the last one, all else. */
  async #leave(session) {
    this.#sessions.delete(session)
    if (this.#owner === session) {
      await this.#rollBack()
      this.#owner = null
    }
    for (const name of session.statements) await this.#send(message('C', Buffer.from('S'), name))
    if (session.statements.size) await this.#send(message('S'))
    if (this.#settled === session) this.#settled = null
    if (!this.#sessions.size) await forgetEverything(this.db)
    session.socket.end()
  }

  async #rollBack() {
    await this.#send(message('S'))
    await this.db.exec('ROLLBACK')
  }

  async #send(bytes) {
    const { data } = await this.db.execProtocol(bytes, { syncToFs: false, throwOnError: false })
    return Buffer.from(data)
  }
}
