// The machine that PGlite is, as it stands between two messages: its memory, its files, what it holds open.
//
// Emscripten keeps files as JavaScript objects and offers no way to copy them: `nameTable`, `name_next` and
// `streams` are its own. Nodes and streams keep their identity, for whoever is restored still holds them.

const PAGE_BYTES = 65_536
const BLANK = Buffer.alloc(PAGE_BYTES)

let loaded = 0 // libraries, in all
const { Instance } = WebAssembly
WebAssembly.Instance = class extends Instance {
  constructor(...library) {
    super(...library)
    loaded += 1
  }
}

export class Snapshot {
  #loaded = loaded
  #pages = new Map() // by number, but for blank ones
  #stackPointer
  #nodes = new Map() // each with a copy of what it says
  #streams
  #nameTable

  /** Of a PGlite that is idle. */
  constructor({ Module: { FS, HEAPU8, ___stack_pointer: stackPointer } }) {
    this.#stackPointer = stackPointer.value
    for (const [number, page] of pages(HEAPU8)) {
      if (!page.equals(BLANK)) this.#pages.set(number, Buffer.from(page))
    }
    this.#nameTable = FS.nameTable.slice()
    this.#streams = FS.streams.map((stream) => stream && [stream, { ...stream }, { ...stream.shared }])
    for (const node of nodes(FS)) this.#nodes.set(node, { ...node, contents: copied(node.contents) })
  }

  /** Go back to it, whatever was done since. Throws where a library was loaded. */
  restore({ Module: { FS, HEAPU8, ___stack_pointer: stackPointer } }) {
    if (loaded !== this.#loaded) throw new Error('a library was loaded since, and its code cannot be taken out again')
    stackPointer.value = this.#stackPointer
    for (const [number, page] of pages(HEAPU8)) {
      const kept = this.#pages.get(number) ?? BLANK
      if (!page.equals(kept)) page.set(kept)
    }
    FS.nameTable = this.#nameTable.slice()
    FS.streams = this.#streams.map((kept) => kept && restored(...kept))
    for (const [node, { contents, ...rest }] of this.#nodes) {
      Object.assign(node, rest)
      if (!isSame(node.contents, contents)) node.contents = copied(contents)
    }
  }
}

function* pages(memory) {
  for (let at = 0; at < memory.length; at += PAGE_BYTES) {
    yield [at / PAGE_BYTES, Buffer.from(memory.buffer, at, PAGE_BYTES)]
  }
}

/** Files and folders; also those that are deleted, but open. */
function* nodes(FS) {
  for (const first of FS.nameTable) for (let node = first; node; node = node.name_next) yield node
  for (const stream of FS.streams) if (stream?.node) yield stream.node
}

function restored(stream, own, shared) {
  Object.assign(stream, own)
  Object.assign(stream.shared, shared)
  return stream
}

/** The bytes of a file, or the nodes of a folder by their names. */
const copied = (contents) => (ArrayBuffer.isView(contents) ? contents.slice() : contents && { ...contents })

const isSame = (one, other) =>
  ArrayBuffer.isView(one) && ArrayBuffer.isView(other) && bytes(one).equals(bytes(other))

const bytes = ({ buffer, byteOffset, byteLength }) => Buffer.from(buffer, byteOffset, byteLength)
