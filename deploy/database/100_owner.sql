-- Once, when the database is made: the service's own login. It owns its database and is no superuser;
-- CREATEROLE is for `aiwm db analyst`. Its password is the one in the URL, read from the file: on no command line.
\set url `cat /run/secrets/database_url`
SELECT format(
    'CREATE ROLE aiwm LOGIN CREATEROLE PASSWORD %L',
    substring(:'url' FROM '^postgresql://aiwm:([^:@/]+)@')
) \gexec
ALTER DATABASE aiwm OWNER TO aiwm;
