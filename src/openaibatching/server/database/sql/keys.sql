-- The keys of the table api_key: what servers ask of it, and what `openaibatching keys` does to it.
-- A key has ended when its `revoked_at` or its `expires_at` has passed (`key_end` in schema.sql); the
-- clock is the database's. `mark` is the beginning of a digest (auth/key_format.py): as much as names a key.

-- ===== servers =====

-- name: known_keys
select id, tenant, name, scope, digest, extract(epoch from key_end(k) - now())::float8 as ends_in_s
  from api_key k where coalesce(key_end(k) > now(), true);

-- name: known_key
select id, tenant, name, scope, digest, extract(epoch from key_end(k) - now())::float8 as ends_in_s
  from api_key k
 where digest between %(first)b::bytea and %(last)b::bytea and coalesce(key_end(k) > now(), true);

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

-- ===== openaibatching keys =====

-- name: create_key
insert into api_key as k (tenant, name, scope, hint, digest, expires_at)
values (%(tenant)s, %(name)s, %(scope)s, %(hint)s, %(digest)b,
        now() + make_interval(secs => %(expires_in_s)s::float8))
returning id, tenant, name, scope, hint, created_at, last_used_at, expires_at, revoked_at,
          false as ended;

-- name: list_keys
select id, tenant, name, scope, hint, created_at, last_used_at, expires_at, revoked_at,
       coalesce(key_end(k) <= now(), false) as ended
  from api_key k order by created_at, id;

-- name: end_key
-- Only one that is as it was seen: of two who rotate a key at once, one has to look again.
update api_key as k set revoked_at = now() + make_interval(secs => %(in_s)s::float8)
 where id = %(id)s and revoked_at is not distinct from %(revoked_at)s::timestamptz
returning id, tenant, name, scope, hint, created_at, last_used_at, expires_at, revoked_at,
          key_end(k) <= now() as ended;
