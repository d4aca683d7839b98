-- What a caller does with the requests of its tenant after the call: find, list, cancel, retry, delete.
-- The conventions are those of queries.sql.

-- name: find_by_upstream_id
select id from request where upstream_id = %(upstream_id)s::text and tenant = any(%(tenants)b::text[])
 order by seq desc limit 1;

-- name: read_previous
-- Of calls that go on from a Response of their tenant's: whether they are stored already, and what
-- has become of that Response.
select t.id as call, t.previous as id, exists (select from request where request.id = t.id) as known,
       p.state, p.upstream_id
  from unnest(%(ids)b::uuid[], %(tenants)b::text[], %(previous)b::uuid[]) as t(id, tenant, previous)
  left join request p
    on p.id = t.previous and p.tenant = t.tenant and p.endpoint = '/v1/responses';

-- name: list_requests
-- Newest first. One index scan a tenant and state, merged: as cheap with ten million rows as with ten. The
-- order names the state, and no `state =` makes it redundant: by `seq` alone the planner may walk all
-- tenants' requests backwards, in the hope of finding some soon. `state >=` ends the scan: PostgreSQL
-- takes only the first column of a comparison of rows for its end.
select r.seq, r.id, r.body_id, r.tenant, r.endpoint, r.model, r.state,
       sendings(r.attempts, b.state) as attempts, r.status_code, r.created_at, r.finished_at,
       b.upstream_id as batch_upstream_id, null::bytea as answer, null::numeric as realtime,
       null::numeric as paid, null::boolean as incomplete
  from unnest(%(tenants)b::text[]) as t(tenant) cross join unnest(%(states)b::text[]) as s(state)
 cross join lateral (
   select * from request
    where request.tenant = t.tenant and request.state >= s.state
      and (request.state, seq)
          < (s.state, coalesce(%(before_seq)s::bigint, 9223372036854775807))
    order by request.state desc, seq desc limit %(limit)s::int) as r
  left join lateral (select state, upstream_id from batch where id = r.batch_id offset 0) as b on true
 order by r.seq desc limit %(limit)s::int;

-- name: cancel_request
-- request: queued -> cancelled
update request set state = 'cancelled', finished_at = now()
 where id = %(id)s::uuid and state = 'queued'
returning id;

-- name: last_queued
select seq from request
 where tenant = %(tenant)s::text and state >= 'queued' and state <= 'queued'
 order by state desc, seq desc limit 1;

-- name: cancel_queued
-- request: queued -> cancelled
-- One part of what a tenant has queued, after one `seq` and up to another. Gives the last `seq` that
-- was looked at, null when none is left: what was claimed meanwhile is looked at and not cancelled.
with part as materialized (
  select seq from request
   where tenant = %(tenant)s::text and request.state <= 'queued'
     and (request.state, seq) > ('queued', %(after_seq)s::bigint)
     and seq <= %(last_seq)s::bigint
     and (%(model)s::text is null or model = %(model)s::text)
     and (%(endpoint)s::text is null or endpoint = %(endpoint)s::text)
     and (%(created_before)s::timestamptz is null or created_at < %(created_before)s::timestamptz)
   order by request.state, seq limit %(limit)s::int
), locked as materialized (
  select seq from request where seq in (select seq from part) and state = 'queued'
   order by seq for no key update
), cancelled as (
  update request r set state = 'cancelled', finished_at = now()
    from locked where r.seq = locked.seq
  returning r.seq
)
select (select max(seq) from part) as last_seq, (select count(*) from cancelled) as cancelled;

-- name: read_body
select body from payload where seq = %(seq)s::bigint;

-- name: retry_request
-- request: failed -> queued
-- request: cancelled -> queued
-- request: completed -> queued
-- `incomplete`: its answer says that it broke off. It costs what a new request would.
with again as (
  update request
     set state = 'queued', batch_id = null, attempts = 0, status_code = null, finished_at = null,
         estimate = %(estimate)s::numeric, usd_most = %(usd_most)s::numeric,
         queued_at = now(), lone = null, lone_refusals = null, lone_since = null
   where id = %(id)s::uuid
     and (state in ('failed', 'cancelled') or (state = 'completed' and %(incomplete)s::boolean))
  returning seq, id
), forgotten as (
  update payload set answer = null, realtime = null, paid = null, incomplete = null
    from again where payload.seq = again.seq
)
select id from again;

-- name: delete_request
delete from request where id = %(id)s::uuid and finished_at is not null returning id;

-- name: wish_cancel
-- Nobody else's request is in it, and OpenAI has not ended it. The batch's next turn carries the wish
-- out, whichever server takes it. Wishing again changes nothing.
update batch b set cancel_wished_at = coalesce(cancel_wished_at, now()), next_at = now()
 where id = %(id)s::uuid and state in ('claimed', 'uploading', 'uploaded', 'creating', 'submitted')
   and not exists (select from share s where s.batch_id = b.id and s.tenant <> %(tenant)s::text)
returning pg_notify('openaibatching', state);

-- name: lock_wish
-- Whether the batch's end is wished; until the transaction ends, nobody can wish it.
select cancel_wished_at is not null from batch where id = %(id)s::uuid for no key update;
