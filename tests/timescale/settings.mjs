// A connection's settings, user and role, in and out of the one backend; never within a transaction.

// PGlite starts its backend with other values of these than a server has, and RESET goes back to those.
export const SERVER_SETTINGS = {
  allow_system_table_mods: 'off',
  client_min_messages: 'notice',
  enable_seqscan: 'on',
  search_path: '"$user", public',
}

const READ = `
  SELECT json_object_agg(name, setting) AS settings FROM (
    SELECT name, setting FROM pg_settings WHERE source = 'session'
    UNION ALL SELECT 'session_authorization', session_user
    UNION ALL SELECT 'role', current_setting('role')
  ) AS s`
const APPLY = 'SELECT set_config(key, value, false) FROM json_each_text($1)'
const APPLY_UNSET = `
  SELECT set_config(key, value, false) FROM json_each_text($1)
  JOIN pg_settings ON lower(name) = lower(key) WHERE source <> 'session'`
const BECOME = "SELECT set_config('session_authorization', $1, false), set_config('role', $2, false)"
const BECOME_SUPERUSER = 'SET SESSION AUTHORIZATION postgres' // PGlite has no idea of whom to RESET to

/** All that was set, with the user and the role. */
export async function read(db) {
  return (await db.query(READ)).rows[0].settings
}

/** These settings and no others. Throws an error with a `code` where the backend will not have them. */
export async function apply(db, { session_authorization: user, role = 'none', ...settings }) {
  await db.exec(`${BECOME_SUPERUSER}; RESET ROLE; RESET ALL`)
  await db.query(APPLY, [JSON.stringify(settings)])
  await db.query(BECOME, [user, role]) // last, for it may take away the right to set the others
}

/** These settings where they are not set otherwise. */
export async function applyUnset(db, settings) {
  await db.query(APPLY_UNSET, [JSON.stringify(settings)])
}

/** The backend as if it were new: no settings, prepared statements, temporary tables, advisory locks. */
export async function forgetEverything(db) {
  await db.exec(BECOME_SUPERUSER)
  await db.exec('DISCARD ALL')
}
