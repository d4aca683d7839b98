-- Requests.
--
-- A request's state is the table in which its row stands: `queued`, `sent` or `result`, and always in
-- exactly one of them. What lives long (`request`, `body`, `result`) is inserted once and never
-- updated; what changes is small and short-lived. A transition is one statement that deletes from one
-- table and inserts into another, so whoever looks with one statement sees each request once; two
-- statements, or a volatile function, may see it twice or not at all.
--
-- These statements add to `tally` and `reserve` themselves: triggers would copy each row once more, and a
-- test looks that none of them forgets it. After each index stands the statement that needs it.

set search_path = openaibatching;

-- Where a request goes. A few rows: a statement that accepts requests adds what is missing.
create table route (
  id        int generated always as identity primary key,
  endpoint  text not null,
  model     text not null,                     -- '': the call leaves it to OpenAI
  unique (model, endpoint)                     -- model first: find_lone, list_groups, free_lone
);

-- One call, one answer: what it is. Inserted once.
create table request (
  seq          bigint generated always as identity unique,   -- every other table names it so
  id           uuid primary key,               -- its identity: a hash, see requests/parse.py
  body_id      uuid not null,                  -- the identity of the body alone
  created_at   timestamptz not null default now(),
  route_id     int not null,
  line_bytes   int not null,
  tokens       int not null,
  inputs       int not null,
  tenant       text not null
);

-- The body as it is sent, in its caller's order: raw bytes, never decoded by the database. Inserted
-- once. No foreign key: its row and the request's are written and deleted by one statement.
create table body (
  seq          bigint primary key,             -- read_bodies, read_body, forget_requests
  body         bytea not null,
  traceparent  text                            -- the caller's place in its trace, if it is sampled
);
-- Bodies are short-lived and already small: compressing them would cost the door more than
-- it saves the disk, but answers of images or embeddings are worth it.
alter table body alter column body set storage external;

-- Requests that wait to be sent. The sizes are the request's own, so that forming a batch reads
-- nothing else.
create table queued (
  seq          bigint not null,
  queued_at    timestamptz not null default now(),   -- a time to come: not before that
  route_id     int not null,
  line_bytes   int not null,
  tokens       int not null,
  inputs       int not null,
  attempts     int not null default 0 check (attempts >= 0),
  status_code  int,                            -- of the last failure
  -- Refused alone for its tokens, while nothing else of the model was enqueued: how often, since when,
  -- and whether it has to go alone again. `queued_at` is then the end of its pause.
  lone           boolean,
  lone_refusals  int,
  lone_since     timestamptz,
  tenant       text not null,
  estimate     numeric,                        -- USD that it may cost; only where a budget is set
  usd_most     numeric,                        -- and more cannot be; null: nobody can say
  failure      bytea,                          -- what OpenAI answered at the last failure
  primary key (tenant, seq)                    -- claim_requests, list_requests, cancel_queued
) with (autovacuum_vacuum_scale_factor = 0.02);
create index queued_in_turn on queued (tenant, route_id, queued_at, seq);  -- queue_head, read_queue
create index queued_lone on queued (route_id, queued_at) where lone;       -- find_lone, list_groups

-- Requests that are in a batch. What `queued` says of them is kept for those that are queued again.
create table sent (
  batch_id     uuid not null,
  seq          bigint not null,
  queued_at    timestamptz not null,
  attempts     int not null,
  status_code  int,
  lone           boolean,
  lone_refusals  int,
  lone_since     timestamptz,
  tenant       text not null,
  estimate     numeric,
  usd_most     numeric,
  failure      bytea,
  primary key (tenant, seq)                    -- store_results, list_requests
) with (autovacuum_vacuum_scale_factor = 0.02);
create index sent_in_batch on sent (batch_id, seq);   -- read_bodies, read_unanswered, move_requests

-- What became of requests, with the answer as OpenAI wrote it. Inserted once; only a retry takes it
-- back. Prices are those of the time at which the answer came.
create table result (
  seq          bigint primary key,             -- shown_request; and no request ends twice
  queued_at    timestamptz not null,
  finished_at  timestamptz not null,
  batch_id     uuid,                           -- null: it was never sent
  attempts     int not null,
  status_code  int,                            -- of the answer, or of the last failure
  incomplete   boolean,                        -- whether something is charged that is not in there
  tenant       text not null,
  state        text not null check (state in ('completed', 'failed', 'cancelled')),
  upstream_id  text,                           -- the id in OpenAI's answer
  realtime     numeric,                        -- USD of the answer in real time, if the price is known
  paid         numeric,                        -- and by batch
  answer       bytea,
  check (state = 'cancelled' or status_code is not null)
);
create index result_by_state on result (tenant, state, seq);  -- list_requests
create index result_by_end on result (finished_at);           -- forget_requests
create index result_by_upstream_id on result (upstream_id)    -- find_by_upstream_id
  where upstream_id is not null;

-- A request with what has become of it. Each table is looked into by the request's key (offset 0):
-- `queued` and `sent` may be empty when a statement is planned, and must not be read whole later.
create view shown_request as
select r.seq, r.id, r.body_id, r.tenant, r.route_id, w.endpoint, w.model,
       case when x.seq is not null then x.state when s.seq is not null then 'in_progress'
            when q.seq is not null then 'queued' end as state,
       coalesce(x.batch_id, s.batch_id) as batch_id,
       coalesce(x.attempts, s.attempts, q.attempts) as attempts,
       r.line_bytes, r.tokens, r.inputs,
       coalesce(x.status_code, s.status_code, q.status_code) as status_code, x.upstream_id,
       r.created_at, coalesce(x.queued_at, s.queued_at, q.queued_at) as queued_at, x.finished_at,
       x.answer, x.realtime, x.paid, x.incomplete, coalesce(s.failure, q.failure) as failure
  from request r
 cross join lateral (select * from route where route.id = r.route_id offset 0) as w
  left join lateral (select * from result where result.seq = r.seq offset 0) as x on true
  left join lateral (
    select * from sent
     where x.seq is null and sent.tenant = r.tenant and sent.seq = r.seq offset 0) as s on true
  left join lateral (
    select * from queued
     where x.seq is null and queued.tenant = r.tenant and queued.seq = r.seq offset 0) as q on true;

-- The oldest queued request of each (tenant, endpoint, model): a walk from group to group along the
-- index, so its cost is the number of groups, not of requests.
create view queue_head as
with recursive head as (
  (select tenant, route_id, queued_at from queued
    order by tenant, route_id, queued_at, seq limit 1)
  union all
  select n.tenant, n.route_id, n.queued_at from head cross join lateral (
    select tenant, route_id, queued_at from queued
     where (tenant, route_id) > (head.tenant, head.route_id)
     order by tenant, route_id, queued_at, seq limit 1) as n
)
select tenant, w.endpoint, w.model, queued_at, route_id
  from head cross join lateral (select * from route where route.id = head.route_id offset 0) as w;

-- The same of one tenant, and of at most so many groups.
create function queue_heads(of_tenant text, most int)
returns table (endpoint text, model text, queued_at timestamptz, route_id int)
language sql stable as $$
with recursive head as (
  (select route_id, queued_at from queued where tenant = of_tenant
    order by route_id, queued_at, seq limit 1)
  union all
  select n.route_id, n.queued_at from head cross join lateral (
    select route_id, queued_at from queued
     where tenant = of_tenant and route_id > head.route_id
     order by route_id, queued_at, seq limit 1) as n
)
select w.endpoint, w.model, head.queued_at, head.route_id
  from (select * from head limit most) as head
 cross join lateral (select * from route where route.id = head.route_id offset 0) as w $$;

create function request_finished() returns trigger language plpgsql as $$
begin
  perform pg_notify('openaibatching', 'finished');
  return null;
end $$;

create trigger finished after insert on result
  for each statement execute function request_finished();
