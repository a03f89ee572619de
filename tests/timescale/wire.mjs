// PostgreSQL's wire protocol, as far as a front before one backend needs it: bytes in, bytes out, no sockets.

const SSL_REQUEST = 80877103
const GSS_REQUEST = 80877104
const CANCEL_REQUEST = 80877102

/** A message of the backend or the client: type byte, length, body. */
export function message(type, ...parts) {
  const body = Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part + '\0') : part)))
  const head = Buffer.alloc(5)
  head.write(type, 0, 'latin1')
  head.writeInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}

export const int32 = (...values) => Buffer.concat(values.map((value) => {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}))

/** A FATAL error as the backend would send it before it hangs up. */
export const fatal = (code, text) =>
  message('E', 'SFATAL', 'VFATAL', `C${code}`, `M${text}`, Buffer.alloc(1))

/** The messages of a reply, as views on it: `{type, bytes, body}`. */
export function* messages(reply) {
  for (let at = 0; at < reply.length;) {
    const end = at + 1 + reply.readInt32BE(at + 1)
    yield { type: String.fromCharCode(reply[at]), bytes: reply.subarray(at, end), body: reply.subarray(at + 5, end) }
    at = end
  }
}

/** Whole messages out of a stream of bytes; before the typed ones come `encrypt`, `cancel` or `start`. */
export class Framer {
  #bytes = Buffer.alloc(0)
  #isStarted = false

  push(chunk) {
    this.#bytes = this.#bytes.length ? Buffer.concat([this.#bytes, chunk]) : chunk
  }

  /** The next message; null where it is not all here yet. */
  next() {
    const prefix = this.#isStarted ? 1 : 0
    if (this.#bytes.length < prefix + 4) return null
    const length = prefix + this.#bytes.readInt32BE(prefix)
    if (this.#bytes.length < length) return null
    const bytes = this.#bytes.subarray(0, length)
    this.#bytes = this.#bytes.subarray(length)
    if (!this.#isStarted) return this.#start(bytes)
    return { type: String.fromCharCode(bytes[0]), bytes, body: bytes.subarray(5) }
  }

  #start(bytes) {
    const code = bytes.readInt32BE(4)
    if (code === SSL_REQUEST || code === GSS_REQUEST) return { type: 'encrypt' }
    if (code === CANCEL_REQUEST) return { type: 'cancel' }
    this.#isStarted = true
    const words = bytes.toString('utf8', 8).split('\0')
    const settings = {}
    for (let at = 0; words[at]; at += 2) settings[words[at]] = words[at + 1]
    return { type: 'start', settings }
  }
}

/** The name of the prepared statement that a message speaks of; null where it speaks of none. */
export function statementName({ type, body }) {
  const skip = nameOffset(type, body)
  if (skip === undefined || ((type === 'D' || type === 'C') && body[0] !== 0x53)) return null
  return body.toString('utf8', skip, body.indexOf(0, skip))
}

/** The same message about a statement of another name. */
export function renamed({ type, body }, name) {
  const skip = nameOffset(type, body)
  return message(type, body.subarray(0, skip), name, body.subarray(body.indexOf(0, skip) + 1))
}

const nameOffset = (type, body) => ({ P: 0, B: body.indexOf(0) + 1, D: 1, C: 1 })[type]
