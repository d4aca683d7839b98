-- Every statement that the server sends, by name. `-- a -> b` says which transition it is; a
-- test compares these lines with domain/states.py and with the diagrams in ARCHITECTURE.md.
-- `now` is null except where a test owns the clock. Arrays travel in binary (`%b`): half as long.
--
-- A statement that changes many rows locks them in one order: what is deleted or updated by its place
-- (ctid, which is safe within one statement) is locked in the order of places, batches are locked by
-- `id` first. So no two of them wait for each other. The order of an `update` by itself is the plan's.
--
-- A request's row moves: `delete from` the table of its old state and `insert into` that of the new
-- one are one statement. The delete is the guard: whoever comes second finds nothing.

-- ===== form =====

-- name: lock_model
-- One server at a time forms batches of a model, because they share its token limit.
select pg_try_advisory_xact_lock(hashtextextended(%(model)s::text, 9487)) as locked;

-- name: list_groups
-- The (endpoint, model) that have queued requests and are not held: those first whose time has come, in
-- turns between the tenants, by what each has `used`. `flushed`: some tenant wants its requests to be
-- sent at once. `held_back`: by their budgets. `waiting`: no batch is made for their sake, and
-- `unhurried`: their wish to flush does not count (pipeline/creations.py). `lone_at`: since when a
-- request of the model may be sent that has to go alone.
with head as (
  select h.*, h.tenant <> all(%(waiting)b::text[]) as counts,
         coalesce(u.used, 0) + row_number() over (partition by h.tenant order by h.queued_at) as turn,
         coalesce(h.queued_at <= f.at and h.tenant <> all(%(waiting)b::text[])
                  and h.tenant <> all(%(unhurried)b::text[]), false) as flushed
    from queue_head h
    left join unnest(%(tenants)b::text[], %(used)b::float8[]) as u(tenant, used) on u.tenant = h.tenant
    left join flush f on f.tenant = h.tenant
   where h.tenant <> all(%(held_back)b::text[])
     and h.queued_at <= coalesce(%(now)s::timestamptz, now())
)
select g.*, token_factor(g.endpoint, g.model) as token_factor,
       (select min(q.queued_at) from route w cross join lateral (
           select min(queued_at) as queued_at from queued
            where lone and route_id = w.id and tenant <> all(%(held_back)b::text[])) as q
         where w.model = g.model) as lone_at,
       coalesce(%(now)s::timestamptz, now()) as now
  from (select head.endpoint, head.model, array_agg(head.tenant) as tenants,
               min(head.queued_at) filter (where head.counts) as queued_at,
               bool_or(head.flushed) as flushed,
               coalesce(bool_or(l.probing is not null), false) as probing,
               limit_at(l, coalesce(%(now)s::timestamptz, now())) as token_limit
          from head left join model_limit l on l.model = head.model
         where coalesce(l.held_until, '-infinity') <= coalesce(%(now)s::timestamptz, now())
         group by head.endpoint, head.model, l
        having bool_or(head.counts)
         order by bool_or(head.flushed) or min(head.queued_at) filter (where head.counts)
                    <= coalesce(%(now)s::timestamptz, now()) - %(linger)s::interval desc,
                  min(head.turn) filter (where head.counts), min(head.queued_at)
         limit %(limit)s::int) as g;

-- name: measure_queue
-- How much one batch could take of the queue: enough to know whether it is full.
select count(*) as requests, coalesce(sum(line_bytes), 0)::bigint as bytes,
       coalesce(sum(inputs), 0)::bigint as inputs, coalesce(sum(tokens), 0)::bigint as tokens
  from (select q.* from unnest(%(tenants)b::text[]) as t(tenant) cross join lateral (
          select line_bytes, inputs, tokens from queued
           where tenant = t.tenant and route_id = (select id from route
                    where endpoint = %(endpoint)s::text and model = %(model)s::text)
             and lone is null
             and queued_at <= coalesce(%(now)s::timestamptz, now()) limit %(limit)s::int) as q
         limit %(limit)s::int) as queue;

-- name: read_queue
-- In fair turns: first whose tenant has had the fewest tokens before it, in this very list. So
-- each tenant gets about the same share of a batch, and one that is alone gets all of it.
select seq, line_bytes, tokens, inputs, tenant, usd, usd_most from (
  select q.seq, q.line_bytes, q.tokens, q.inputs, t.tenant, q.usd, q.usd_most, q.queued_at,
         sum(q.tokens) over (partition by t.tenant order by q.queued_at, q.seq) - q.tokens as had
    from unnest(%(tenants)b::text[]) as t(tenant) cross join lateral (
      select seq, line_bytes, tokens, inputs, estimate::float8 as usd, usd_most::float8 as usd_most,
             queued_at from queued
       where tenant = t.tenant and route_id = (select id from route
                where endpoint = %(endpoint)s::text and model = %(model)s::text)
         and lone is null
         and queued_at <= coalesce(%(now)s::timestamptz, now())
       order by queued_at, seq limit %(limit)s::int) as q) as turns
 order by had, queued_at, seq limit %(limit)s::int;

-- name: enqueued_tokens
select enqueued(%(model)s::text);

-- name: batches_under_way
-- Those that OpenAI works on already prove nothing, but for a single request that is tried.
select count(*) as batches from batch
 where model = %(model)s::text and state not in ('collected', 'closed')
   and (requests = 1 or coalesce(upstream_status, 'validating') = 'validating');

-- name: creates_last_hour
select count(*) as creates from batch
 where attempted_at > coalesce(%(now)s::timestamptz, now()) - interval '1 hour'
   and state not in ('uploading', 'uploaded');

-- name: read_creations
-- What each tenant has used of them, with what is about to be created. A batch counts in equal parts
-- for all who have requests in it.
select s.tenant, sum(1.0 / s.tenants)::float8 as creations, count(*) filter (where s.in_hand) as in_hand
  from (select share.tenant, made.in_hand, count(*) over (partition by made.id) as tenants
          from (select id, state in ('claimed', 'uploading', 'uploaded', 'creating')
                           and next_at <= coalesce(%(now)s::timestamptz, now()) as in_hand
                  from batch
                 where attempted_at > coalesce(%(now)s::timestamptz, now()) - interval '1 hour'
                   and state not in ('claimed', 'uploading', 'uploaded')
                union all
                select id, next_at <= coalesce(%(now)s::timestamptz, now())
                  from batch where state in ('claimed', 'uploading', 'uploaded')) as made
          left join share on share.batch_id = made.id) as s
 group by s.tenant;

-- name: lock_creates
-- One server at a time counts creations and adds its own.
select pg_advisory_xact_lock(9487, 0);

-- name: claim_requests
-- request: queued -> in_progress
-- Those that are still queued. Rows that are deleted by their places are locked in that order.
with gone as (
  delete from queued where ctid = any(array(
    select q.ctid from unnest(%(tenants)b::text[], %(seqs)b::bigint[]) as t(tenant, seq)
     cross join lateral (
       select ctid from queued where queued.tenant = t.tenant and queued.seq = t.seq offset 0) as q))
  returning *
), moved as (
  insert into sent (batch_id, seq, tenant, attempts, status_code, queued_at, estimate, usd_most, lone,
                    lone_refusals, lone_since, failure)
  select %(batch_id)s::uuid, seq, tenant, attempts + 1, status_code, queued_at, estimate, usd_most,
         lone, lone_refusals, lone_since, failure
    from gone order by seq
), taken as (
  select tenant, count(*) as requests, sum(line_bytes)::bigint as bytes,
         sum(tokens)::bigint as tokens, sum(coalesce(usd_most, 'infinity')) as usd_most
    from gone group by tenant
), counted as (
  insert into tally
  select 'request', tenant, 'queued', -requests from taken
  union all select 'request', tenant, 'in_progress', requests from taken
)
select tenant, requests, bytes, tokens, usd_most from taken;

-- name: insert_batch
-- batch: (none) -> claimed
insert into batch (id, parent_id, state, endpoint, model, requests, bytes, tokens)
values (%(id)s::uuid, %(parent_id)s::uuid, 'claimed', %(endpoint)s::text, %(model)s::text,
        %(requests)s::int, %(bytes)s::bigint, %(tokens)s::bigint);

-- name: insert_shares
-- Whose requests the batch has.
insert into share (tenant, batch_id, requests, usd_most, leads)
select tenant, %(batch_id)s::uuid, sum(requests), sum(usd_most), row_number() over (order by tenant) = 1
  from unnest(%(tenants)b::text[], %(requests)b::int[], %(usd_mosts)b::numeric[])
       as t(tenant, requests, usd_most)
 group by tenant;

-- ===== leases =====

-- name: hold_server_number
-- Held until the session ends, so a server that is dead is known at once. Shared, because after a
-- cut the old session may linger on the database's side.
select pg_try_advisory_lock_shared(9487, %(server)s::int) as held;

-- name: take_batch
-- The oldest turn in one of these states that nobody works on. A lease ends by time (a server
-- that is paused) or with the session of its server (one that was killed). `held`: what this
-- server works on itself, which counts even while the session that proves it is interrupted.
update batch
   set lease_by = %(server)s::int, leases = leases + 1,
       lease_until = coalesce(%(now)s::timestamptz, now()) + %(duration)s::interval
 where id = (
   select id from batch
    where state = any(%(states)b::text[])
      and next_at <= coalesce(%(now)s::timestamptz, now())
      and is_free(lease_by, lease_until, coalesce(%(now)s::timestamptz, now()))
      and (lease_by is distinct from %(server)s::int or id <> all(%(held)b::uuid[]))
    order by next_at limit 1
    for update skip locked)
returning id, state, leases, endpoint, model, requests, tokens, tries, downloads, reads, uploads,
          creates,
          upstream_id, upstream_status, input_file_id, output_file_id, error_file_id, errors,
          completed, failed, requeued, cancelled, cancel_wished_at, upstream_completed,
          upstream_failed, parent_id,
          coalesce(input_tokens > 0 or output_tokens > 0, false) as charged, created_at,
          attempted_at, submitted_at, ended_at, next_at,
          coalesce(%(now)s::timestamptz, now()) as now;

-- name: due_states
-- The states in which some batch's turn has come: what take_batch would find.
select distinct state from batch
 where state <> 'closed'
   and next_at <= coalesce(%(now)s::timestamptz, now())
   and is_free(lease_by, lease_until, coalesce(%(now)s::timestamptz, now()));

-- name: renew_leases
-- A row that does not come back has gone to somebody else. One whose step has just given it back
-- itself comes, and stays as it is.
with held as materialized (
  select batch.id, lease
    from batch join unnest(%(ids)b::uuid[], %(leases)b::int[]) as held(id, lease) using (id)
   where leases = lease
   order by batch.id for no key update of batch
)
update batch
   set lease_until = case when lease_by = %(server)s::int then now() + %(duration)s::interval end
  from held where batch.id = held.id
returning batch.id, lease;

-- name: release_batch
update batch
   set lease_by = null, lease_until = null, tries = tries + 1, trouble = %(trouble)s::text,
       troubled_at = case when trouble is null then now() else troubled_at end,
       next_at = coalesce(%(now)s::timestamptz, now()) + %(wait)s::interval
 where id = %(id)s::uuid and lease_by = %(server)s::int and leases = %(lease)s::int
returning id;

-- ===== submit =====

-- name: start_upload
-- batch: claimed -> uploading
-- batch: uploading -> uploading
-- Committed before the upload is sent: from here on its outcome may be unknown.
update batch set state = 'uploading', uploads = uploads + 1,
       attempted_at = coalesce(%(now)s::timestamptz, now())
 where id = %(id)s::uuid and lease_by = %(server)s::int and leases = %(lease)s::int
   and state in ('claimed', 'uploading')
returning id;

-- name: finish_upload
-- batch: uploading -> uploaded
update batch set state = 'uploaded', tries = 0, trouble = null, input_file_id = %(input_file_id)s::text,
       lease_by = null, lease_until = null
 where id = %(id)s::uuid and lease_by = %(server)s::int and leases = %(lease)s::int
   and state = 'uploading'
returning id;

-- name: start_create
-- batch: uploaded -> creating
-- Committed before the create is sent: from here on its outcome may be unknown.
update batch
   set state = 'creating', creates = creates + 1,
       attempted_at = coalesce(%(now)s::timestamptz, now())
 where id = %(id)s::uuid and lease_by = %(server)s::int and leases = %(lease)s::int
   and state = 'uploaded'
returning id;

-- name: note_unknown
-- The create came back without an outcome: from now on BATCH_SETTLE_S is waited for it.
update batch set attempted_at = coalesce(%(now)s::timestamptz, now())
 where id = %(id)s::uuid and lease_by = %(server)s::int and leases = %(lease)s::int
   and state = 'creating'
returning id;

-- name: undo_create
-- batch: creating -> uploaded
-- `refused`: OpenAI said that the create did not act. Else it was not there after BATCH_SETTLE_S,
-- and may still come: then there is a double.
update batch set state = 'uploaded', creates = creates - %(refused)s::int
 where id = %(id)s::uuid and lease_by = %(server)s::int and leases = %(lease)s::int
   and state = 'creating'
returning id;

-- name: finish_create
-- batch: creating -> submitted
update batch
   set state = 'submitted', tries = 0, trouble = null, upstream_id = %(upstream_id)s::text,
       upstream_status = %(status)s::text, submitted_at = coalesce(%(now)s::timestamptz, now()),
       next_at = coalesce(%(now)s::timestamptz, now()) + %(wait)s::interval,
       lease_by = null, lease_until = null
 where id = %(id)s::uuid and lease_by = %(server)s::int and leases = %(lease)s::int
   and state = 'creating'
returning id;

-- name: refuse_batch
-- batch: uploading -> refused
-- batch: creating -> refused
-- batch: submitted -> refused
-- OpenAI refused the file, the batch, or at its validation what is in it: nothing was executed.
update batch
   set state = 'refused', tries = 0, trouble = null, upstream_status = 'failed', errors = %(errors)s::bytea,
       ended_at = coalesce(%(now)s::timestamptz, now()), lease_by = null, lease_until = null
 where id = %(id)s::uuid and lease_by = %(server)s::int and leases = %(lease)s::int
   and state in ('uploading', 'creating', 'submitted')
returning id;

-- name: call_off_batch
-- batch: claimed -> refused
-- batch: uploading -> refused
-- batch: uploaded -> refused
-- Its end is wished, and OpenAI does not have it: none of it was executed, as if it had been refused.
update batch
   set state = 'refused', tries = 0, trouble = null, upstream_status = 'cancelled',
       ended_at = coalesce(%(now)s::timestamptz, now()), lease_by = null, lease_until = null
 where id = %(id)s::uuid and lease_by = %(server)s::int and leases = %(lease)s::int
   and state in ('claimed', 'uploading', 'uploaded')
returning id;

-- name: read_input_file
-- Past its upload a batch keeps its file: any other one with its name is a stray.
select input_file_id from batch
 where id = %(id)s::uuid and state not in ('claimed', 'uploading');

-- name: read_bodies
-- In the order of the lines: OpenAI's validation errors count them.
select r.id, p.body from sent s
 cross join lateral (select id from request where request.seq = s.seq offset 0) as r
 cross join lateral (select body from body where body.seq = s.seq offset 0) as p
 where s.batch_id = %(batch_id)s::uuid
 order by s.seq;

-- ===== watch =====

-- name: note_status
-- `turn` is the turn that was taken: a webhook that came during the look has given it another.
update batch
   set upstream_status = %(status)s::text, upstream_completed = %(completed)s::int,
       upstream_failed = %(failed)s::int,
       tries = case when upstream_status = %(status)s::text then tries + 1 else 0 end, trouble = null,
       next_at = case when next_at = %(turn)s::timestamptz
                      then coalesce(%(now)s::timestamptz, now()) + %(wait)s::interval
                      else next_at end,
       lease_by = null, lease_until = null
 where id = %(id)s::uuid and lease_by = %(server)s::int and leases = %(lease)s::int
   and state = 'submitted'
returning id;

-- name: end_batch
-- batch: submitted -> ended
update batch
   set state = 'ended', tries = 0, trouble = null, upstream_status = %(status)s::text,
       output_file_id = %(output_file_id)s::text, error_file_id = %(error_file_id)s::text,
       errors = %(errors)s::bytea, ended_at = coalesce(%(now)s::timestamptz, now()),
       upstream_completed = %(completed)s::int, upstream_failed = %(failed)s::int,
       input_tokens = %(input_tokens)s::bigint, cached_tokens = %(cached_tokens)s::bigint,
       output_tokens = %(output_tokens)s::bigint, reasoning_tokens = %(reasoning_tokens)s::bigint,
       lease_by = null, lease_until = null
 where id = %(id)s::uuid and lease_by = %(server)s::int and leases = %(lease)s::int
   and state = 'submitted'
returning id;

-- name: wake_batch
update batch set next_at = now()
 where upstream_id = %(upstream_id)s::text and state = 'submitted'
returning pg_notify('openaibatching', 'submitted');
