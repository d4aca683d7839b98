-- The keys of the table api_key: what servers ask of it, and what `openaibatching keys` does to it.
-- A key has ended when its `revoked_at` has passed; the clock is the database's. `mark` is the
-- beginning of a digest (key_text.py): as much as names a key.

-- ===== servers =====

-- name: known_keys
select id, tenant, digest, extract(epoch from revoked_at - now())::float8 as ends_in_s
  from api_key where revoked_at is null or revoked_at > now();

-- name: known_key
select id, tenant, digest, extract(epoch from revoked_at - now())::float8 as ends_in_s
  from api_key
 where digest between %(first)b::bytea and %(last)b::bytea
   and (revoked_at is null or revoked_at > now());

-- name: note_uses
-- Rows are locked in one order: servers that write at the same time must not wait for each other
-- in a circle.
with used as (
  select api_key.id, t.ago_s
    from api_key join unnest(%(ids)b::uuid[], %(agos_s)b::float8[]) as t(id, ago_s) using (id)
   order by api_key.id for update of api_key
)
update api_key set last_used_at = greatest(last_used_at, now() - make_interval(secs => used.ago_s))
  from used where api_key.id = used.id;
