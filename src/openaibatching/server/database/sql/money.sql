-- What the answers cost, and to whom: written in the transactions that store them, so that each
-- counts once. `spending` and `failure` are explained in schema.sql.

-- name: read_shares
select tenant, requests from share where batch_id = %(batch_id)s::uuid order by tenant;

-- name: add_spending
-- In one order everywhere, so that two servers never wait for each other in a circle.
insert into spending as s (tenant, hour, endpoint, model, answers, unpriced, incomplete,
       input_tokens, cached_tokens, output_tokens, reasoning_tokens, realtime, paid, lost, assumed)
select tenant, date_trunc('hour', coalesce(%(now)s::timestamptz, now()), 'UTC'),
       %(endpoint)s::text, %(model)s::text, answers, unpriced, incomplete,
       input_tokens, cached_tokens, output_tokens, reasoning_tokens, realtime, paid, lost, assumed
  from unnest(%(tenants)b::text[], %(answers)b::bigint[], %(unpriced)b::bigint[],
              %(incomplete)b::bigint[], %(input_tokens)b::bigint[], %(cached_tokens)b::bigint[],
              %(output_tokens)b::bigint[], %(reasoning_tokens)b::bigint[],
              %(realtime)b::numeric[], %(paid)b::numeric[], %(lost)b::numeric[],
              %(assumed)b::numeric[])
       as t(tenant, answers, unpriced, incomplete, input_tokens, cached_tokens, output_tokens,
            reasoning_tokens, realtime, paid, lost, assumed)
 order by tenant
on conflict (tenant, hour, endpoint, model) do update
   set answers = s.answers + excluded.answers, unpriced = s.unpriced + excluded.unpriced,
       incomplete = s.incomplete + excluded.incomplete,
       input_tokens = s.input_tokens + excluded.input_tokens,
       cached_tokens = s.cached_tokens + excluded.cached_tokens,
       output_tokens = s.output_tokens + excluded.output_tokens,
       reasoning_tokens = s.reasoning_tokens + excluded.reasoning_tokens,
       realtime = s.realtime + excluded.realtime, paid = s.paid + excluded.paid,
       lost = s.lost + excluded.lost, assumed = s.assumed + excluded.assumed;

-- name: add_failures
insert into failure as f (tenant, hour, endpoint, model, status_code, code, n, example)
select tenant, date_trunc('hour', coalesce(%(now)s::timestamptz, now()), 'UTC'),
       %(endpoint)s::text, %(model)s::text, status_code, code, n, example
  from unnest(%(tenants)b::text[], %(status_codes)b::int[], %(codes)b::text[], %(ns)b::bigint[],
              %(examples)b::uuid[]) as t(tenant, status_code, code, n, example)
 order by tenant, status_code, code
on conflict (tenant, hour, endpoint, model, status_code, code) do update
   set n = f.n + excluded.n, example = excluded.example;

-- name: read_commitments
-- What today has cost each tenant (what has no price: as budgets count it), what its unfinished requests may still cost, and what the batches
-- of which not all is charged yet cost at most.
select tenant, sum(spent) as spent, sum(reserved) as reserved, sum(at_openai) as at_openai
  from (select tenant, paid + assumed as spent, 0::numeric as reserved, 0::numeric as at_openai from spending
         where hour >= date_trunc('day', coalesce(%(now)s::timestamptz, now()), 'UTC')
        union all
        select tenant, 0, usd, 0 from reserve
        union all
        select s.tenant, 0, 0, s.usd_most from batch b join share s on s.batch_id = b.id
         where b.state in ('claimed', 'uploading', 'uploaded', 'creating', 'submitted', 'ended')
       ) as all_
 group by tenant;

-- name: lock_budgets
-- One server at a time forms batches where a budget is set, because all share it.
select pg_try_advisory_xact_lock(9487, 1) as locked;

-- name: read_mean_outputs
-- How many tokens the answers of a week had.
select endpoint, model, (sum(output_tokens) / sum(answers))::int as mean from spending
 where hour > now() - interval '7 days' group by endpoint, model having sum(answers) > 0;

-- name: which_known
select id from request where id = any(%(ids)b::uuid[]);

-- name: fold_reserve
with gone as (delete from reserve returning tenant, usd)
insert into reserve select tenant, sum(usd) from gone group by tenant having sum(usd) <> 0;

-- name: add_share_counts
-- How requests of a batch ended, by tenant.
update share as s
   set completed = s.completed + t.completed, failed = s.failed + t.failed,
       requeued = s.requeued + t.requeued, cancelled = s.cancelled + t.cancelled
  from unnest(%(tenants)b::text[], %(completed)b::int[], %(failed)b::int[], %(requeued)b::int[],
              %(cancelled)b::int[]) as t(tenant, completed, failed, requeued, cancelled)
 where s.batch_id = %(batch_id)s::uuid and s.tenant = t.tenant;

-- name: sum_spending
-- The sums of all tenants, or of one, from an hour on; `settled`: of hours that nobody adds to any more, so that they
-- need not be read again. A transaction's hour is that of its start, and none lasts for one.
with bounds as (select date_trunc('hour', now(), 'UTC') - interval '1 hour' as settled_to)
select hour < settled_to as settled, settled_to, endpoint, model, min(hour) as first,
       sum(answers)::bigint as answers, sum(unpriced)::bigint as unpriced,
       sum(incomplete)::bigint as incomplete, sum(input_tokens)::bigint as input_tokens,
       sum(cached_tokens)::bigint as cached_tokens, sum(output_tokens)::bigint as output_tokens,
       sum(reasoning_tokens)::bigint as reasoning_tokens, sum(realtime) as realtime,
       sum(paid) as paid, sum(lost) as lost
  from spending cross join bounds
 where hour >= %(since)s::timestamptz
   and (%(tenant)s::text is null or tenant = %(tenant)s::text)
 group by 1, 2, 3, 4;

-- name: sum_failures
with bounds as (select date_trunc('hour', now(), 'UTC') - interval '1 hour' as settled_to)
select hour < settled_to as settled, settled_to, endpoint, status_code, sum(n)::bigint as n
  from failure cross join bounds
 where hour >= %(since)s::timestamptz
   and (%(tenant)s::text is null or tenant = %(tenant)s::text)
 group by 1, 2, 3, 4;
