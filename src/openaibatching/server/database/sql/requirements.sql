-- What the database is asked before a server says that it is ready (database/requirements.py).

-- name: read_database_basics
select current_setting('server_encoding') as encoding,
       current_setting('transaction_read_only')::boolean as read_only,
       to_regnamespace('openaibatching') is not null
         or has_database_privilege(current_database(), 'create') as may_create;

-- The first table or sequence of the schema that this role may not use in full; none if all is well.
-- name: find_missing_right
select c.relname
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = 'openaibatching'
   and not case c.relkind
             when 'S' then has_sequence_privilege(c.oid, 'usage')
             when 'v' then has_table_privilege(c.oid, 'select')
             when 'r' then has_schema_privilege(n.oid, 'usage')
                           and has_table_privilege(c.oid, 'select')
                           and has_table_privilege(c.oid, 'insert')
                           and has_table_privilege(c.oid, 'update')
                           and has_table_privilege(c.oid, 'delete')
             else true
           end
 order by c.relname limit 1;

-- name: announce_probe
select pg_notify('openaibatching', %(payload)s::text);

-- Whether the lock of hold_server_number is seen by another session, as is_free() has to.
-- name: is_number_seen
select not openaibatching.is_free(%(server)s::int, 'infinity', now()) as seen;
