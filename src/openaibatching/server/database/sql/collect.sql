-- What becomes of a batch that has ended or was refused, until nothing of it is left at OpenAI.

-- ===== collect =====

-- name: store_results
-- request: in_progress -> completed
-- request: in_progress -> failed
-- request: in_progress -> queued
-- request: in_progress -> cancelled
-- A second result for the same request changes nothing. `refund`: OpenAI did not execute it. `wait`:
-- one that is queued again may be sent only after that.
-- Found by their ids and keys (offset 0): a planner that sees that they are of one batch reads all of
-- that batch for each part of its answers.
with given as (
  select * from unnest(%(ids)b::uuid[], %(states)b::text[], %(status_codes)b::int[],
                       %(upstream_ids)b::text[], %(answers)b::bytea[], %(realtimes)b::numeric[],
                       %(paids)b::numeric[], %(incompletes)b::boolean[], %(refunds)b::int[],
                       %(waits)b::interval[])
       as t(id, state, status_code, upstream_id, answer, realtime, paid, incomplete, refund, wait)
), owed as materialized (
  select r.seq, s.place, given.* from given
   cross join lateral (select seq, tenant from request where request.id = given.id offset 0) as r
   cross join lateral (select ctid as place from sent
                        where sent.tenant = r.tenant and sent.seq = r.seq offset 0) as s
), gone as (
  delete from sent
   where ctid = any(array(select place from owed)) and batch_id = %(batch_id)s::uuid
  returning *
), moved as materialized (
  select gone.seq, gone.tenant, gone.batch_id, owed.state, gone.attempts - owed.refund as attempts,
         coalesce(owed.status_code, gone.status_code) as status_code, gone.queued_at, owed.wait,
         gone.estimate, gone.usd_most, gone.lone, gone.lone_refusals, gone.lone_since,
         coalesce(owed.answer, gone.failure) as answer, owed.upstream_id, owed.realtime, owed.paid,
         owed.incomplete
    from gone join owed using (seq)
), kept as (
  insert into result (seq, tenant, state, batch_id, attempts, status_code, queued_at, finished_at,
                      upstream_id, realtime, paid, incomplete, answer)
  select seq, tenant, state, batch_id, attempts, status_code, queued_at,
         coalesce(%(now)s::timestamptz, now()), upstream_id, realtime, paid, incomplete, answer
    from moved where state <> 'queued'
), again as (
  insert into queued (seq, tenant, route_id, line_bytes, tokens, inputs, queued_at, attempts,
                      status_code, estimate, usd_most, lone, lone_refusals, lone_since, failure)
  select m.seq, m.tenant, r.route_id, r.line_bytes, r.tokens, r.inputs,
         case when m.wait > interval '0' then coalesce(%(now)s::timestamptz, now()) + m.wait
              else m.queued_at end,
         m.attempts, m.status_code, m.estimate, m.usd_most, m.lone, m.lone_refusals, m.lone_since,
         m.answer
    from moved m cross join lateral (select * from request where request.seq = m.seq offset 0) as r
   where m.state = 'queued'
), noted as (
  insert into event (at, request_seq, batch_id, old_state, new_state)
  select coalesce(%(now)s::timestamptz, now()), seq, batch_id, 'in_progress', state
    from moved where state = 'queued'
), ended as (
  select tenant, state, count(*) as n, sum(estimate) as usd from moved group by tenant, state
), counted as (
  insert into tally
  select 'request', tenant, state, n from ended
  union all select 'request', tenant, 'in_progress', -n from ended
), reserved as (
  insert into reserve select tenant, -usd from ended where state <> 'queued' and usd is not null
)
select state, sum(n)::bigint as n from ended group by state;

-- name: count_results
update batch
   set completed = completed + %(completed)s::int, failed = failed + %(failed)s::int,
       requeued = requeued + %(requeued)s::int, cancelled = cancelled + %(cancelled)s::int,
       input_tokens = input_tokens - %(input_tokens)s::bigint,
       cached_tokens = cached_tokens - %(cached_tokens)s::bigint,
       output_tokens = output_tokens - %(output_tokens)s::bigint,
       reasoning_tokens = reasoning_tokens - %(reasoning_tokens)s::bigint
 where id = %(id)s::uuid and lease_by = %(server)s::int and leases = %(lease)s::int
   and state in ('refused', 'ended')
returning id;

-- name: read_attempts
-- Each by its id (offset 0): the planner would read all of the batch for each of its parts.
select r.id, s.attempts, s.status_code, r.tenant
  from unnest(%(ids)b::uuid[]) as given(id)
 cross join lateral (select * from request where request.id = given.id offset 0) as r
 cross join lateral (
   select * from sent where sent.tenant = r.tenant and sent.seq = r.seq offset 0) as s
 where s.batch_id = %(batch_id)s::uuid;

-- name: read_unanswered
-- What a batch still owes, in the order of its lines, with the last real reason if there is one.
select s.seq, r.id, s.attempts, s.status_code, r.line_bytes, r.tokens, r.created_at, s.tenant
  from sent s cross join lateral (select * from request where request.seq = s.seq offset 0) as r
 where s.batch_id = %(batch_id)s::uuid
 order by s.seq;

-- name: move_requests
-- From a refused batch to one of its halves: still in progress.
with moved as (
  update sent set batch_id = %(to_batch_id)s::uuid
   where ctid = any(array(
           select ctid from sent
            where batch_id = %(batch_id)s::uuid and seq = any(%(seqs)b::bigint[])))
     and batch_id = %(batch_id)s::uuid
  returning seq, tenant, usd_most)
select m.tenant, count(*), sum(r.line_bytes)::bigint, sum(r.tokens)::bigint,
       sum(coalesce(m.usd_most, 'infinity'))
  from moved m cross join lateral (select * from request where request.seq = m.seq offset 0) as r
 group by m.tenant;

-- name: read_again
update batch
   set downloads = downloads + 1, reads = case when %(whole)s::bool then reads + 1 else 0 end
 where id = %(id)s::uuid and lease_by = %(server)s::int and leases = %(lease)s::int
   and state = 'ended'
returning id;

-- name: look_again
-- What OpenAI's batch object says now: file ids and usage may come after the end, and its counts may
-- grow. Tokens that are null change nothing. A change begins the count of readings anew.
update batch
   set output_file_id = %(output_file_id)s::text, error_file_id = %(error_file_id)s::text,
       upstream_completed = %(completed)s::int, upstream_failed = %(failed)s::int,
       reads = %(reads)s::int,
       input_tokens = coalesce(%(input_tokens)s::bigint, input_tokens),
       cached_tokens = coalesce(%(cached_tokens)s::bigint, cached_tokens),
       output_tokens = coalesce(%(output_tokens)s::bigint, output_tokens),
       reasoning_tokens = coalesce(%(reasoning_tokens)s::bigint, reasoning_tokens)
 where id = %(id)s::uuid and lease_by = %(server)s::int and leases = %(lease)s::int
   and state = 'ended'
returning id;

-- name: finish_collect
-- batch: ended -> collected
-- batch: refused -> collected
update batch set state = 'collected', tries = 0, trouble = null,
       next_at = coalesce(%(now)s::timestamptz, now()),
       lease_by = null, lease_until = null
 where id = %(id)s::uuid and lease_by = %(server)s::int and leases = %(lease)s::int
   and state in ('refused', 'ended')
returning completed, failed, requeued, cancelled, coalesce(input_tokens, 0),
          coalesce(cached_tokens, 0), coalesce(output_tokens, 0), coalesce(reasoning_tokens, 0);

-- name: keep_result_files
-- Nobody could read who is answered in them: a person may, so they are left where they are.
update batch set output_file_id = null, error_file_id = null
 where id = %(id)s::uuid and lease_by = %(server)s::int and leases = %(lease)s::int
   and state = 'ended'
returning id;

-- name: read_sibling
-- The other half of the refused batch that this one is a half of, if it is still known.
select state, upstream_status, errors from batch
 where parent_id = %(parent_id)s::uuid and id <> %(id)s::uuid;

-- name: note_event
insert into event (batch_id, note) values (%(batch_id)s::uuid, %(note)s::text);

-- ===== clean up =====

-- name: forget_file
-- One file of the batch is gone upstream: whatever fails next, it need not be asked for again.
update batch
   set input_file_id = nullif(input_file_id, %(file_id)s::text),
       output_file_id = nullif(output_file_id, %(file_id)s::text),
       error_file_id = nullif(error_file_id, %(file_id)s::text), tries = 0, trouble = null
 where id = %(id)s::uuid and lease_by = %(server)s::int and leases = %(lease)s::int
   and state = 'collected'
returning id;

-- name: close_batch
-- batch: collected -> closed
update batch set state = 'closed', closed_at = coalesce(%(now)s::timestamptz, now()),
       lease_by = null, lease_until = null
 where id = %(id)s::uuid and lease_by = %(server)s::int and leases = %(lease)s::int
   and state = 'collected'
returning id;

-- name: forget_requests
-- By their places and keys, which are arrays here: the planner cannot choose to read a whole table.
with gone as (
  delete from result where ctid = any(array(
    select ctid from result
     where finished_at < coalesce(%(now)s::timestamptz, now()) - %(ttl)s::interval
     order by finished_at limit %(limit)s::int))
  returning seq, tenant, state
), requests as (
  delete from request where seq = any(array(select seq from gone))
), bodies as (
  delete from body where seq = any(array(select seq from gone))
), events as (
  delete from event where request_seq = any(array(select seq from gone))
), forgotten as (
  select tenant, state, count(*) as n from gone group by tenant, state
), counted as (
  insert into tally select 'request', tenant, state, -n from forgotten
)
select coalesce(sum(n), 0)::bigint from forgotten;

-- name: forget_batches
-- A day after their requests, which still name them.
delete from batch where id in (
  select id from batch
   where state = 'closed'
     and closed_at < coalesce(%(now)s::timestamptz, now()) - %(ttl)s::interval - interval '1 day'
   order by closed_at limit %(limit)s::int
   for update skip locked);

-- name: forget_limits
-- A day without a refusal is a reason to ask OpenAI again.
delete from model_limit
 where greatest(told_at, lowered_at, held_until)
       < coalesce(%(now)s::timestamptz, now()) - interval '1 day';

-- name: fold_tally
with gone as (delete from tally returning what, tenant, state, n)
insert into tally (what, tenant, state, n)
select what, tenant, state, sum(n) from gone group by what, tenant, state having sum(n) <> 0;
