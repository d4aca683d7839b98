-- What is asked about all of it: metrics, the page, money. Nothing here changes a row, and all of it
-- costs the same however many requests are stored.

-- ===== metrics =====

-- name: read_tally
select what, state, sum(n)::bigint as n from tally group by what, state;

-- name: stuck_batches
-- In OpenAI's hands for longer than its window of 24 hours and an hour of grace, or in ours for an
-- hour, which only a fault explains (or 2,000 creations an hour that are not enough).
select id, state, model, upstream_id, since, tries
  from (select batch.*, coalesce(ended_at, submitted_at, created_at) as since from batch
         where state <> 'closed') as b
 where since < coalesce(%(now)s::timestamptz, now())
               - case when state = 'submitted' then interval '25 hours' else interval '1 hour' end
 order by since;

-- name: token_limits
select model, limit_at(l, now()) from model_limit l where limit_at(l, now()) is not null;

-- name: oldest_queued
select coalesce(extract(epoch from now() - min(queued_at)), 0)::float8 as seconds from queue_head;

-- name: ping
-- Reading is not enough: a failover may have left us on a standby.
select not current_setting('transaction_read_only')::boolean as writable;
