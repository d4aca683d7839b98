-- What is asked about all of it: metrics, the page, money. All of it
-- costs the same however many requests are stored.

-- ===== metrics =====

-- name: read_tally
-- Of all tenants, or of one.
select case what when 'own_batch' then 'batch' else what end as what, state, sum(n)::bigint as n
  from tally
 where case when %(tenant)s::text is null then what <> 'own_batch' else tenant = %(tenant)s::text end
 group by 1, 2;

-- name: stuck_batches
select id, state, model, upstream_id, coalesce(ended_at, submitted_at, created_at) as since, tries
  from batch b
 where state <> 'closed' and is_stuck(b, coalesce(%(now)s::timestamptz, now()))
   and (%(tenant)s::text is null
        or exists (select from share s where s.batch_id = b.id and s.tenant = %(tenant)s::text))
 order by since;

-- name: token_limits
-- OpenAI's number of each model, and what is kept instead where batches are refused below it.
select model, told, guess_at(l, now()) as guess from model_limit l
 where told is not null or lowered is not null;

-- name: oldest_queued
select coalesce(greatest(0, extract(epoch from now() - min(queued_at))), 0)::float8 as seconds
  from queue_head where %(tenant)s::text is null or tenant = %(tenant)s::text;

-- name: ping
-- Reading is not enough: a failover may have left us on a standby.
select not current_setting('transaction_read_only')::boolean as writable;

-- ===== one tenant's, or those of all =====

-- name: known_tenants
-- Every tenant that has requests or has spent anything: a walk from tenant to tenant along the index.
with recursive spent as (
  (select tenant from spending order by tenant limit 1)
  union all
  select n.tenant from spent cross join lateral (
    select tenant from spending where tenant > spent.tenant order by tenant limit 1) as n
)
select tenant from spent union select tenant from tally where what = 'request' order by tenant;

-- name: count_requests
select state, sum(n)::bigint as n from tally
 where what = 'request' and tenant = any(%(tenants)b::text[]) group by state;

-- name: read_queues
-- What these tenants have queued, by endpoint and model: of each tenant's first `groups` of them the
-- oldest ones. Counting ends at `most`.
with oldest as materialized (
  select t.tenant, h.endpoint, h.model, h.queued_at, h.route_id
    from unnest(%(tenants)b::text[]) as t(tenant)
   cross join lateral queue_heads(t.tenant, %(groups)s::int) as h
   order by h.queued_at limit %(limit)s::int
)
select h.tenant, h.endpoint, h.model, h.queued_at, coalesce(h.queued_at <= f.at, false) as flushed,
       c.requests, l.held_until, l.held_for, limit_at(l, now()) as token_limit,
       l.told as token_limit_told, guess_at(l, now()) is not null as guessed,
       enqueued(h.model) as enqueued
  from oldest h
  left join model_limit l on l.model = h.model
  left join flush f on f.tenant = h.tenant
 cross join lateral (
   select count(*) as requests from (
     select from queued q where q.route_id = h.route_id and q.tenant = h.tenant
      limit %(most)s::int) as counted) as c
 order by h.queued_at;

-- name: open_batches
-- From the open ones of all tenants, which are few, and not from all that the tenant ever had.
select own.*
  from (select id from batch where state <> 'closed' offset 0) as open
 cross join lateral (
   select * from tenant_batch where id = open.id and tenant = %(tenant)s::text offset 0) as own
 order by own.created_at limit %(limit)s::int;

-- name: list_batches
-- Newest first. One index scan for each kind of tenant, of which one ends at once: over the union of
-- both, the planner would sort all batches.
(select * from own_batch
  where tenant = %(tenant)s::text
    and seq < coalesce(%(before_seq)s::bigint, 9223372036854775807)
  order by seq desc limit %(limit)s::int)
union all
(select * from whole_batch
  where %(tenant)s::text = '' and seq < coalesce(%(before_seq)s::bigint, 9223372036854775807)
  order by seq desc limit %(limit)s::int)
 order by seq desc limit %(limit)s::int;

-- name: find_batch
-- By our id or OpenAI's.
select * from tenant_batch
 where tenant = %(tenant)s::text
   and (id = %(id)s::uuid or upstream_id = %(upstream_id)s::text);

-- name: list_failures
-- Why requests failed for good, the most frequent reason first.
select status_code, code, endpoint, model, sum(n)::bigint as requests,
       (array_agg(example order by hour desc))[1] as example, max(hour) as last_hour
  from failure
 where tenant = any(%(tenants)b::text[]) and hour > now() - %(since)s::interval
 group by status_code, code, endpoint, model
 order by requests desc, last_hour desc limit %(limit)s::int;

-- name: answers_by_hour
select hour, sum(answers)::bigint as answers, sum(failed)::bigint as failed
  from (select hour, answers, 0 as failed from spending
         where tenant = any(%(tenants)b::text[]) and hour > now() - %(since)s::interval
        union all
        select hour, 0, n from failure
         where tenant = any(%(tenants)b::text[]) and hour > now() - %(since)s::interval) as both_
 group by hour order by hour;

-- name: sum_costs
-- The last `days` days of UTC, today included, by those of day, endpoint and model that are asked for.
select case when %(by_day)s::boolean then (hour at time zone 'UTC')::date end as day,
       case when %(by_endpoint)s::boolean then endpoint end as endpoint,
       case when %(by_model)s::boolean then model end as model,
       case when %(by_tenant)s::boolean then tenant end as tenant,
       coalesce(sum(answers), 0)::bigint as answers, coalesce(sum(unpriced), 0)::bigint as unpriced,
       coalesce(sum(incomplete), 0)::bigint as incomplete,
       coalesce(sum(input_tokens), 0)::bigint as input_tokens,
       coalesce(sum(cached_tokens), 0)::bigint as cached_tokens,
       coalesce(sum(output_tokens), 0)::bigint as output_tokens,
       coalesce(sum(reasoning_tokens), 0)::bigint as reasoning_tokens,
       coalesce(sum(realtime), 0) as realtime, coalesce(sum(paid), 0) as paid,
       coalesce(sum(lost), 0) as lost
  from spending
 where tenant = any(%(tenants)b::text[])
   and hour >= date_trunc('day', now(), 'UTC') - (%(days)s::int - 1) * interval '1 day'
 group by 1, 2, 3, 4 order by 1 desc nulls last, paid desc, 2, 3, 4;

-- name: list_events
-- A request's story: its own steps and those of each batch that it was in. What is ordinary is read off
-- its rows: that it came, that a batch took it (that one, if the last one is a half of it), and how it
-- ended. At the same time its own step comes first: it is written first.
with recursive of as materialized (
  select seq, created_at, state, batch_id, finished_at from shown_request
   where seq = %(seq)s::bigint and tenant = %(tenant)s::text
), own as materialized (
  select event.* from of join event on event.request_seq = of.seq
), was_in as (
  select b.id, b.parent_id, b.created_at, b.id as last_id, 0 as halvings
    from (select batch_id from own union select batch_id from of) as i
    join batch b on b.id = i.batch_id
  union all
  select b.id, b.parent_id, b.created_at, h.last_id, h.halvings + 1
    from was_in h join batch b on b.id = h.parent_id
), step as (
  select 0 as seq, created_at as at, null::uuid as batch_id, null::text as old_state,
         'queued' as new_state, null::text as note
    from of
  union all
  (select distinct on (last_id) 1, created_at, id, 'queued', 'in_progress', null
     from was_in order by last_id, halvings desc)
  union all
  select seq, at, case when new_state <> 'queued' then batch_id end, old_state, new_state, note
    from own
  union all
  select 9223372036854775807, finished_at, batch_id,
         case when batch_id is null then 'queued' else 'in_progress' end, state, null
    from of where finished_at is not null
)
select e.at, e.of, e.old_state, e.new_state, e.batch_id, b.upstream_id, e.note
  from (select 'request' as of, step.* from step
        union all
        select 'batch', v.seq, v.at, v.batch_id, v.old_state, v.new_state, v.note
          from (select distinct id from was_in) as h
         cross join lateral (select * from event
                              where event.request_seq is null and event.batch_id = h.id offset 0) as v
       ) as e
  left join batch b on b.id = e.batch_id
 order by e.at, e.of desc, e.seq limit %(limit)s::int;

-- ===== forecasts =====

-- name: read_history
-- How long OpenAI took for the last batches of each model that completed.
select model, requests, submitted_at, ended_at, created_at
  from (select b.*, row_number() over (partition by model order by ended_at desc) as n
          from (select model, requests, submitted_at, ended_at, created_at from batch
                 where upstream_status = 'completed' and ended_at > now() - interval '30 days'
                   and submitted_at is not null
                 order by ended_at desc limit 20000) as b) as recent
 where n <= %(each)s::int
 order by ended_at desc;

-- name: read_under_way
-- What OpenAI works on.
select upstream_id, model, requests, submitted_at from batch
 where state = 'submitted' and upstream_id is not null;

-- name: held_models
-- The models of which no batch is made now, or only when another has ended.
select model from model_limit l
 where held_until > now()
    or limit_at(l, now()) <= enqueued(l.model);

-- ===== traces =====

-- name: read_traced
-- Those of `ids` that have finished and that a caller traces, with the times of the batch.
select r.id, p.traceparent, w.endpoint, w.model, x.attempts, r.created_at, x.queued_at,
       b.created_at as claimed_at, b.submitted_at, b.ended_at, x.finished_at, b.upstream_id
  from request r
 cross join lateral (select * from result where result.seq = r.seq offset 0) as x
 cross join lateral (select traceparent from body where body.seq = r.seq offset 0) as p
  join route w on w.id = r.route_id
  join batch b on b.id = x.batch_id
 where r.id = any(%(ids)b::uuid[]) and p.traceparent is not null;

-- ===== answers that nobody asks for =====

-- name: note_answers_read
insert into answer_read (tenant, at)
select unnest(%(tenants)b::text[]), coalesce(%(now)s, now()) order by 1
on conflict (tenant) do update set at = greatest(answer_read.at, excluded.at);

-- name: read_unread
-- What was answered in the last week and after the tenant last got an answer, by whole hours; no row
-- while the oldest of it is younger than an hour.
select sum(answers)::bigint as answers, sum(paid) as paid, min(hour) as since
  from spending, (select coalesce(%(now)s, now()) as now) as clock
 where tenant = any(%(tenants)b::text[]) and answers > 0 and hour > now - interval '7 days'
   and hour > coalesce((select at from answer_read r where r.tenant = spending.tenant), '-infinity')
having min(hour) < min(now) - interval '2 hours';

-- ===== flush =====

-- name: wish_flush
insert into flush (tenant, at) values (%(tenant)s::text, now())
on conflict (tenant) do update set at = excluded.at;
