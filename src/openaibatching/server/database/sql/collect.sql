-- What becomes of a batch that has ended or was refused, until nothing of it is left at OpenAI.

-- ===== collect =====

-- name: store_results
-- request: in_progress -> completed
-- request: in_progress -> failed
-- request: in_progress -> queued
-- request: in_progress -> cancelled
-- A second result for the same request changes nothing. `refund`: OpenAI did not execute it. `wait`:
-- one that is queued again may be sent only after that.
-- Found by their ids (offset 0), and then by their keys: a planner that sees that they are of one batch,
-- and open, reads all of that batch for each part of its answers. Two servers may store one batch's
-- answers, each in the order of its own file: rows are locked by `seq`, so neither waits in a circle.
with given as (
  select * from unnest(%(ids)b::uuid[], %(states)b::text[], %(status_codes)b::int[],
                       %(upstream_ids)b::text[], %(answers)b::bytea[], %(realtimes)b::numeric[],
                       %(paids)b::numeric[], %(incompletes)b::boolean[], %(refunds)b::int[],
                       %(waits)b::interval[])
       as t(id, state, status_code, upstream_id, answer, realtime, paid, incomplete, refund, wait)
), owed as materialized (
  select named.*
    from (select r.seq, given.* from given
           cross join lateral (select seq from request where request.id = given.id offset 0) as r
           order by r.seq) as named
   cross join lateral (
     select from request
      where request.seq = named.seq and request.batch_id = %(batch_id)s::uuid
        and request.state = 'in_progress'
     offset 0 for no key update) as locked
), moved as (
  update request r
     set state = owed.state,
         batch_id = case when owed.state = 'queued' then null else r.batch_id end,
         attempts = r.attempts - owed.refund,
         queued_at = case when owed.wait > interval '0'
                          then coalesce(%(now)s::timestamptz, now()) + owed.wait
                          else r.queued_at end,
         status_code = coalesce(owed.status_code, r.status_code),
         upstream_id = owed.upstream_id,
         finished_at = case when owed.state <> 'queued'
                            then coalesce(%(now)s::timestamptz, now()) end
    from owed
   where r.seq = owed.seq
  returning r.seq, r.state, owed.answer, owed.realtime, owed.paid, owed.incomplete
), answered as (
  update payload p
     set answer = moved.answer, realtime = moved.realtime, paid = moved.paid,
         incomplete = moved.incomplete
    from moved where p.seq = moved.seq and moved.answer is not null
)
select state, count(*) as n from moved group by state;

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
select r.id, r.attempts, r.status_code, r.tenant
  from unnest(%(ids)b::uuid[]) as given(id)
 cross join lateral (select * from request where request.id = given.id offset 0) as r
 where r.batch_id = %(batch_id)s::uuid and r.state = 'in_progress';

-- name: read_unanswered
-- What a batch still owes, in the order of its lines, with the last real reason if there is one.
select r.seq, r.id, r.attempts, r.status_code, r.line_bytes, r.tokens, r.created_at, r.tenant
  from request r
 where r.batch_id = %(batch_id)s::uuid and r.state = 'in_progress'
 order by r.seq;

-- name: move_requests
-- From a refused batch to one of its halves: still in progress.
with locked as materialized (
  select seq from request
   where seq = any(%(seqs)b::bigint[]) and batch_id = %(batch_id)s::uuid and state = 'in_progress'
   order by seq for no key update
), moved as (
  update request r set batch_id = %(to_batch_id)s::uuid
    from locked where r.seq = locked.seq
  returning tenant, line_bytes, tokens, usd_most)
select tenant, count(*), sum(line_bytes)::bigint, sum(tokens)::bigint,
       sum(coalesce(usd_most, 'infinity'))
  from moved group by tenant;

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
update batch set state = 'collected', tries = 0, trouble = null, next_at = coalesce(%(now)s::timestamptz, now()),
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
delete from request where seq in (
  select seq from request
   where finished_at < coalesce(%(now)s::timestamptz, now()) - %(ttl)s::interval
   order by finished_at limit %(limit)s::int
   for update skip locked);

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
