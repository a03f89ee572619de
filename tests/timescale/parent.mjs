// The thread that waits for the parent: its lines go to the main thread, its end is the end of this process,
// also while a query keeps the main thread busy.

import { readSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'

const bytes = Buffer.alloc(1024)
for (let text = '';;) {
  const length = readSync(0, bytes)
  if (length === 0) process.kill(process.pid, 'SIGKILL')
  const lines = (text + bytes.toString('utf8', 0, length)).split('\n')
  text = lines.pop()
  for (const line of lines) parentPort.postMessage(line)
}
