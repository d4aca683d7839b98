-- Sessions of the page, and the audit: see schema_access.sql.

-- name: create_session
insert into page_session (digest, tenant, key_id, proof, ends_at)
values (%(digest)b, %(tenant)s, %(key_id)s, %(proof)b,
        now() + make_interval(secs => %(lasts_s)s::float8));

-- name: trim_sessions
-- A tenant's oldest beyond so many: whoever has a key could fill the table.
delete from page_session where digest in (
  select digest from page_session where tenant = %(tenant)s::text
   order by created_at desc offset %(most)s::int);

-- name: read_session
-- With the key of the database that it was made with, unless that has ended.
select s.tenant, s.key_id is null as configured, s.proof, k.id, k.name, k.scope, k.digest
  from page_session s
  left join api_key k on k.id = s.key_id and coalesce(key_end(k) > now(), true)
 where s.digest = %(digest)b::bytea and s.ends_at > now();

-- name: end_session
delete from page_session where digest = %(digest)b::bytea;

-- name: forget_sessions
delete from page_session where ends_at < now();

-- name: write_audit
insert into audit (action, tenant, key_name, address, request_id, target, n)
select * from unnest(%(actions)b::text[], %(tenants)b::text[], %(key_names)b::text[],
                     %(addresses)b::text[], %(request_ids)b::text[], %(targets)b::text[],
                     %(ns)b::bigint[]);

-- name: note_audit
-- What one key does often becomes one line: the newest of this minute's grows, and tells only what
-- all that it stands for have in common.
with crowd as (
  select max(seq) as seq from (
    select seq from audit
     where at > now() - interval '1 minute' and action = %(action)s::text
       and tenant = %(tenant)s::text and key_name = %(key_name)s::text
     order by at desc limit %(most)s::int) as latest
  having count(*) >= %(most)s::int
), grown as (
  update audit set n = audit.n + %(n)s::bigint,
         request_id = case when request_id = %(request_id)s::text then request_id end,
         target = case when target = %(target)s::text then target else %(several)s::text end,
         address = case when address = %(address)s::text then address else %(several)s::text end
    from crowd where audit.seq = crowd.seq returning 1
)
insert into audit (action, tenant, key_name, address, request_id, target, n)
select %(action)s::text, %(tenant)s::text, %(key_name)s::text, %(address)s::text,
       %(request_id)s::text, %(target)s::text, %(n)s::bigint
 where not exists (select from grown);

-- name: read_audit
-- Newest first.
select at, action, tenant, key_name, address, request_id, target, n from audit
 where at > now() - make_interval(secs => %(since_s)s::float8)
   and (%(tenant)s::text is null or tenant = %(tenant)s::text)
   and (%(action)s::text is null or action = %(action)s::text)
 order by at desc, seq desc limit %(limit)s::int;

-- name: forget_audit
with old as (select seq from audit where at < now() - interval '90 days' order by at limit %(limit)s::int)
delete from audit using old where audit.seq = old.seq;
