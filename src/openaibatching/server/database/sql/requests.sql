-- Requests: accepting and reading them, and what a caller does with those of its tenant after the
-- call: find, list, cancel, retry, delete. The conventions are those of queries.sql, but for the clock:
-- callers come at the database's own time, to which a test sets its clock forward.

-- ===== accept =====

-- name: accept_requests
-- request: (none) -> queued
-- A call that is there already is the same request: nothing changes. Gives all but those that
-- somebody else commits at this moment, or whose route: ask again. Large answers stay where they are:
-- these are many. Numbered in the order of the caller, and inserted in that of the ids: everywhere the
-- same, so that two servers with the same calls never deadlock. Routes likewise.
with given as materialized (
  select t.*, nextval(pg_get_serial_sequence('openaibatching.request', 'seq')) as seq
    from unnest(%(ids)b::uuid[], %(body_ids)b::uuid[], %(tenants)b::text[], %(endpoints)b::text[],
                %(models)b::text[], %(line_bytes)b::int[], %(tokens)b::int[], %(inputs)b::int[],
                %(bodies)b::bytea[], %(estimates)b::numeric[], %(usd_mosts)b::numeric[],
                %(traceparents)b::text[])
      as t(id, body_id, tenant, endpoint, model, line_bytes, tokens, inputs, body, estimate, usd_most,
           traceparent)
), wanted as materialized (
  select g.endpoint, g.model, known.id
    from (select distinct endpoint, model from given) as g
    left join lateral (
      select id from route where route.model = g.model and route.endpoint = g.endpoint offset 0
    ) as known on true
), made as (
  insert into route (endpoint, model)
  select endpoint, model from wanted where id is null order by model, endpoint
  on conflict (model, endpoint) do nothing
  returning id, endpoint, model
), routed as (
  select id, endpoint, model from wanted where id is not null
  union all select id, endpoint, model from made
), new as (
  insert into request (seq, id, body_id, tenant, route_id, line_bytes, tokens, inputs)
  overriding system value
  select g.seq, g.id, g.body_id, g.tenant, routed.id, g.line_bytes, g.tokens, g.inputs
    from given g join routed using (endpoint, model) order by g.id
  on conflict (id) do nothing
  returning seq, route_id, created_at
), fresh as materialized (
  select new.route_id, new.created_at, given.* from new join given using (seq)
), stored as (
  insert into body (seq, body, traceparent) select seq, body, traceparent from fresh
), waiting as (
  insert into queued (seq, tenant, route_id, line_bytes, tokens, inputs, estimate, usd_most)
  select seq, tenant, route_id, line_bytes, tokens, inputs, estimate, usd_most from fresh
), counted as (
  insert into tally select 'request', tenant, 'queued', count(*) from fresh group by tenant
), reserved as (
  insert into reserve
  select tenant, sum(estimate) from fresh where estimate is not null group by tenant
)
select seq, id, body_id, tenant, endpoint, model, 'queued' as state, 0 as attempts,
       null::int as status_code, created_at, null::timestamptz as finished_at,
       null::text as batch_upstream_id, null::bytea as answer, null::numeric as realtime,
       null::numeric as paid, null::boolean as incomplete
  from fresh
union all
select v.seq, v.id, v.body_id, v.tenant, v.endpoint, v.model, v.state,
       sendings(v.attempts, b.state) as attempts, v.status_code, v.created_at, v.finished_at,
       b.upstream_id as batch_upstream_id,
       case when octet_length(v.answer) <= %(answer_bytes_max)s::int then v.answer end as answer,
       v.realtime, v.paid, v.incomplete
  from shown_request v left join batch b on b.id = v.batch_id
 where v.id = any(%(ids)b::uuid[]);

-- name: read_requests
select v.seq, v.id, v.body_id, v.tenant, v.endpoint, v.model, v.state,
       sendings(v.attempts, b.state) as attempts, v.status_code, v.created_at, v.finished_at,
       b.upstream_id as batch_upstream_id,
       case when %(answer_bytes_max)s::int is null
              or octet_length(v.answer) <= %(answer_bytes_max)s::int then v.answer end as answer,
       v.realtime, v.paid, v.incomplete
  from shown_request v left join batch b on b.id = v.batch_id
 where v.id = any(%(ids)b::uuid[]) and v.tenant = any(%(tenants)b::text[]);

-- name: which_finished
select r.id from request r
 cross join lateral (select from result where result.seq = r.seq offset 0) as x
 where r.id = any(%(ids)b::uuid[]);

-- name: read_finished_requests
select v.seq, v.id, v.body_id, v.tenant, v.endpoint, v.model, v.state,
       sendings(v.attempts, b.state) as attempts, v.status_code, v.created_at, v.finished_at,
       b.upstream_id as batch_upstream_id,
       v.answer, v.realtime, v.paid, v.incomplete
  from shown_request v left join batch b on b.id = v.batch_id
 where v.id = any(%(ids)b::uuid[]) and v.finished_at is not null;

-- name: queued_models
-- The models of which a tenant has something queued, until there are `most` of them.
select distinct model from queue_heads(%(tenant)s::text, %(most)s::int * %(endpoints)s::int)
 limit %(most)s::int;

-- name: count_queued
select coalesce(sum(n), 0)::bigint from tally
 where what = 'request' and tenant = %(tenant)s::text and state = 'queued';

-- ===== after the call =====

-- name: find_by_upstream_id
select r.id from (select seq from result
                   where upstream_id = %(upstream_id)s::text and tenant = any(%(tenants)b::text[])
                   order by seq desc limit 1) as x
 cross join lateral (select id from request where request.seq = x.seq offset 0) as r;

-- name: read_previous
-- Of calls that go on from a Response of their tenant's: whether they are stored already, and what
-- has become of that Response.
select t.id as call, t.previous as id, exists (select from request where request.id = t.id) as known,
       p.state, p.upstream_id
  from unnest(%(ids)b::uuid[], %(tenants)b::text[], %(previous)b::uuid[]) as t(id, tenant, previous)
  left join lateral (
    select v.state, v.upstream_id from shown_request v
     where v.id = t.previous and v.tenant = t.tenant and v.endpoint = '/v1/responses' offset 0) as p
    on true;

-- name: list_requests
-- Newest first. One index scan a tenant and state, merged: as cheap with ten million rows as with ten.
-- For `result` the order names the state, and no `state =` makes it redundant: by `seq` alone the
-- planner may walk all tenants' results backwards, in the hope of finding some soon. `state >=` ends
-- the scan: PostgreSQL takes only the first column of a comparison of rows for its end.
with page as materialized (
  select %(limit)s::int as most, coalesce(%(before_seq)s::bigint, 9223372036854775807) as before_seq
), found as (
  select n.seq from page cross join unnest(%(tenants)b::text[]) as t(tenant) cross join lateral (
    select seq from queued
     where 'queued' = any(%(states)b::text[]) and queued.tenant = t.tenant and seq < page.before_seq
     order by seq desc limit page.most) as n
  union all
  select n.seq from page cross join unnest(%(tenants)b::text[]) as t(tenant) cross join lateral (
    select seq from sent
     where 'in_progress' = any(%(states)b::text[]) and sent.tenant = t.tenant
       and seq < page.before_seq
     order by seq desc limit page.most) as n
  union all
  select n.seq from page cross join unnest(%(tenants)b::text[]) as t(tenant)
   cross join unnest(%(states)b::text[]) as s(state) cross join lateral (
    select seq from result
     where result.tenant = t.tenant and result.state >= s.state
       and (result.state, seq) < (s.state, page.before_seq)
     order by result.state desc, seq desc limit page.most) as n
)
select v.seq, v.id, v.body_id, v.tenant, v.endpoint, v.model, v.state,
       sendings(v.attempts, b.state) as attempts, v.status_code, v.created_at, v.finished_at,
       b.upstream_id as batch_upstream_id,
       null::bytea as answer, null::numeric as realtime, null::numeric as paid,
       null::boolean as incomplete
  from (select seq from found order by seq desc limit %(limit)s::int) as f
 cross join lateral (select * from shown_request where shown_request.seq = f.seq offset 0) as v
  left join lateral (select state, upstream_id from batch where id = v.batch_id offset 0) as b on true
 order by v.seq desc;

-- name: cancel_request
-- request: queued -> cancelled
with gone as (
  delete from queued
   where (tenant, seq) = (select tenant, seq from request
                           where id = %(id)s::uuid and tenant = %(tenant)s::text)
  returning *
), kept as (
  insert into result (seq, tenant, state, batch_id, attempts, status_code, queued_at, finished_at,
                      answer)
  select seq, tenant, 'cancelled', null, attempts, status_code, queued_at, now(), failure from gone
), counted as (
  insert into tally
  select 'request', tenant, s.state, s.sign * count(*)
    from gone cross join (values ('queued', -1), ('cancelled', 1)) as s(state, sign)
   group by tenant, s.state, s.sign
), reserved as (
  insert into reserve
  select tenant, -sum(estimate) from gone where estimate is not null group by tenant
)
select seq from gone;

-- name: last_queued
select seq from queued where tenant = %(tenant)s::text order by seq desc limit 1;

-- name: cancel_queued
-- request: queued -> cancelled
-- One part of what a tenant has queued, after one `seq` and up to another. Gives the last `seq` that
-- was looked at, null when none is left: what was claimed meanwhile is looked at and not cancelled.
with part as materialized (
  select ctid, seq from queued q
   where tenant = %(tenant)s::text and seq > %(after_seq)s::bigint and seq <= %(last_seq)s::bigint
     and ((%(model)s::text is null and %(endpoint)s::text is null)
          or exists (select from route w where w.id = q.route_id
                        and (%(model)s::text is null or w.model = %(model)s::text)
                        and (%(endpoint)s::text is null or w.endpoint = %(endpoint)s::text)))
     and (%(created_before)s::timestamptz is null
          or exists (select from request r
                      where r.seq = q.seq and r.created_at < %(created_before)s::timestamptz))
   order by seq limit %(limit)s::int
), gone as (
  delete from queued where ctid = any(array(select ctid from part)) returning *
), kept as (
  insert into result (seq, tenant, state, batch_id, attempts, status_code, queued_at, finished_at,
                      answer)
  select seq, tenant, 'cancelled', null, attempts, status_code, queued_at, now(), failure from gone
), counted as (
  insert into tally
  select 'request', tenant, s.state, s.sign * count(*)
    from gone cross join (values ('queued', -1), ('cancelled', 1)) as s(state, sign)
   group by tenant, s.state, s.sign
), reserved as (
  insert into reserve
  select tenant, -sum(estimate) from gone where estimate is not null group by tenant
)
select (select max(seq) from part) as last_seq, (select count(*) from gone) as cancelled;

-- name: read_body
select b.body from body b join request r using (seq)
 where r.id = %(id)s::uuid and r.tenant = %(tenant)s::text;

-- name: retry_request
-- request: failed -> queued
-- request: cancelled -> queued
-- request: completed -> queued
-- `incomplete`: its answer says that it broke off. It costs what a new request would. What had become
-- of it is told by its events from now on.
with gone as (
  delete from result
   where seq = (select seq from request where id = %(id)s::uuid and tenant = %(tenant)s::text)
     and (state in ('failed', 'cancelled') or (state = 'completed' and %(incomplete)s::boolean))
  returning seq, tenant, state, batch_id, finished_at
), again as (
  insert into queued (seq, tenant, route_id, line_bytes, tokens, inputs, estimate, usd_most)
  select r.seq, r.tenant, r.route_id, r.line_bytes, r.tokens, r.inputs, %(estimate)s::numeric,
         %(usd_most)s::numeric
    from gone cross join lateral (select * from request where request.seq = gone.seq offset 0) as r
), noted as (
  insert into event (at, request_seq, batch_id, old_state, new_state)
  select finished_at, seq, batch_id,
         case when batch_id is null then 'queued' else 'in_progress' end, state from gone
  union all
  select now(), seq, null, state, 'queued' from gone
), counted as (
  insert into tally
  select 'request', tenant, state, -1 from gone
  union all select 'request', tenant, 'queued', 1 from gone
), reserved as (
  insert into reserve select tenant, %(estimate)s::numeric from gone
   where %(estimate)s::numeric is not null
)
select seq from gone;

-- name: delete_request
with gone as (
  delete from result
   where seq = (select seq from request where id = %(id)s::uuid and tenant = %(tenant)s::text)
  returning seq, tenant, state
), requests as (
  delete from request where seq = any(array(select seq from gone))
), bodies as (
  delete from body where seq = any(array(select seq from gone))
), events as (
  delete from event where request_seq = any(array(select seq from gone))
), counted as (
  insert into tally select 'request', tenant, state, -1 from gone
)
select seq from gone;

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
