-- version: 1
--
-- The heart of openaibatching: two nouns, a request and a batch, and how they travel.
--
--   caller -> request(queued) -> batch(claimed .. submitted) -> batch(ended) -> request(done)
--
-- The rows are the only channel between the steps. Each step takes rows in one state and leaves
-- them in the next (queries.sql, one statement a transition, guarded by the old state), so the
-- service may stop after any statement and start again anywhere.
--
-- Bodies and answers live in `payload`, apart from `request`: a state change never rewrites a
-- body. History (`event`) and counts (`tally`) are written by statement-level triggers, so no
-- code can forget them. What it cost (`spending`) and what went wrong (`failure`) are added up by
-- the statement that stores the answers, so each counts once. Every transition of a batch, and every end of a request, is announced
-- by NOTIFY openaibatching; a lost notification only costs time, since everyone also looks.
--
-- All of it stands in a schema of its own, so that a database may be shared.

create schema if not exists openaibatching;
set search_path = openaibatching;

create table meta (
  one      boolean primary key default true check (one),
  version  int not null
);

-- What is sent to OpenAI at once. `id` is our key: it names the input file and stands in the
-- upstream batch's metadata, so that work of unknown outcome can be found again.
create table batch (
  id              uuid primary key default gen_random_uuid(),
  parent_id       uuid,                        -- the refused batch that this one is a half of
  state           text not null check (state in ('claimed', 'uploading', 'uploaded', 'creating',
                                                 'submitted', 'refused', 'ended', 'collected',
                                                 'closed')),
  endpoint        text not null,
  model           text not null,
  requests        int not null check (requests > 0),
  bytes           bigint not null,             -- of the lines as they will be written
  tokens          bigint not null,             -- estimated input tokens, see requests/parse.py
  tries           int not null default 0,      -- looks or failures in this state: paces the next
  trouble         text,                        -- why the last look or try failed; null: it did not
  troubled_at     timestamptz,                 -- since when there is trouble, if there is
  uploads         int not null default 0,      -- above 1: a stray file of ours may be upstream
  creates         int not null default 0,      -- not refused; above 1: so may a second batch
  downloads       int not null default 0,      -- readings of the result files that lacked something
  reads           int not null default 0,      -- the whole ones among them since the batch object changed
  upstream_id     text unique,
  upstream_status text,                        -- the last that OpenAI told
  input_file_id   text,
  output_file_id  text,
  error_file_id   text,
  errors          bytea,                       -- OpenAI's reasons for refusing, a JSON list
  completed       int not null default 0,
  failed          int not null default 0,
  requeued        int not null default 0,
  cancelled       int not null default 0,
  cancel_wished_at  timestamptz,               -- a caller wants it stopped: nothing of it goes again
  -- OpenAI's own counts at the last look: for people to watch, nothing is decided by them.
  upstream_completed  int not null default 0,
  upstream_failed     int not null default 0,
  -- Tokens that OpenAI counted, less those of the answers that are stored: in the end, what was
  -- paid for answers that nobody got. Null: OpenAI told nothing.
  input_tokens        bigint,
  cached_tokens       bigint,
  output_tokens       bigint,
  reasoning_tokens    bigint,
  created_at      timestamptz not null default now(),
  attempted_at    timestamptz,                 -- the last upload or create that was sent
  submitted_at    timestamptz,
  ended_at        timestamptz,
  closed_at       timestamptz,
  next_at         timestamptz not null default now(),   -- when it wants to be looked at
  lease_by        int,                         -- the server that works on it, see take_batch
  lease_until     timestamptz,
  leases          int not null default 0,      -- how often it was leased: only the last one counts
  -- A half-finished batch is impossible, and its books balance.
  check ((state = 'closed') = (closed_at is not null)),
  check (state not in ('uploaded', 'creating', 'submitted') or input_file_id is not null),
  check (state <> 'submitted' or upstream_id is not null),
  check (state not in ('collected', 'closed') or completed + failed + requeued + cancelled = requests)
);
create index batch_by_turn on batch (state, next_at) where state <> 'closed';
create index batch_by_parent on batch (parent_id) where parent_id is not null;
create index batch_by_attempt on batch (attempted_at);
create index batch_by_end on batch (closed_at) where state = 'closed';
create index batch_by_duration on batch (ended_at) where upstream_status = 'completed';

-- Who a batch belongs to: each tenant that has requests in it, and how many. `seq` is the order in
-- which a tenant's batches were made.
create table share (
  tenant    text not null,
  seq       bigint generated always as identity,
  batch_id  uuid not null,
  requests  int not null check (requests > 0),
  usd_most  numeric not null default 'infinity',  -- what they cost at most, as far as known
  leads     boolean not null default false,    -- one of each batch: its place among those of all
  -- How they ended, counted with each part of the results that is stored.
  completed int not null default 0,
  failed    int not null default 0,
  requeued  int not null default 0,
  cancelled int not null default 0,
  primary key (tenant, seq)
);
create index share_by_batch on share (batch_id);
create unique index share_leading on share (seq) where leads;

-- One call, one answer. Narrow, because it is updated often.
create table request (
  seq          bigint generated always as identity primary key,
  id           uuid not null unique,           -- its identity: a hash, see requests/parse.py
  body_id      uuid not null,                  -- the identity of the body alone
  tenant       text not null,
  endpoint     text not null,
  model        text not null,                  -- '': the call leaves it to OpenAI
  state        text not null
               check (state in ('queued', 'in_progress', 'completed', 'failed', 'cancelled')),
  batch_id     uuid,
  attempts     int not null default 0 check (attempts >= 0),
  line_bytes   int not null,
  tokens       int not null,
  inputs       int not null,
  estimate     numeric,                        -- USD that it may cost; only where a budget is set
  usd_most     numeric,                        -- and more cannot be; null: nobody can say
  status_code  int,                            -- of the answer, or of the last failure
  upstream_id  text,                           -- the id in OpenAI's answer
  created_at   timestamptz not null default now(),
  queued_at    timestamptz not null default now(),
  finished_at  timestamptz,
  -- Refused alone for its tokens, while nothing else of the model was enqueued: how often, since when,
  -- and whether it has to go alone again. `queued_at` is then the end of its pause.
  lone           boolean,
  lone_refusals  int,
  lone_since     timestamptz,
  check ((state in ('completed', 'failed', 'cancelled')) = (finished_at is not null)),
  check (state <> 'queued' or batch_id is null),
  check (state <> 'in_progress' or batch_id is not null),
  check (state not in ('completed', 'failed') or status_code is not null)
);
create index request_queue on request (tenant, endpoint, model, queued_at, seq)
  where state = 'queued';
create index request_lone on request (model, queued_at)
  where state = 'queued' and lone;
create index request_in_batch on request (batch_id, seq) where state = 'in_progress';
create index request_by_tenant on request (tenant, state, seq);
create index request_by_upstream_id on request (upstream_id) where upstream_id is not null;
create index request_by_end on request (finished_at) where finished_at is not null;

-- The oldest queued request of each (tenant, endpoint, model): a walk from group to group along the
-- index, so its cost is the number of groups, not of requests.
create view queue_head as
with recursive head as (
  (select tenant, endpoint, model, queued_at from request where state = 'queued'
    order by tenant, endpoint, model, queued_at, seq limit 1)
  union all
  select n.tenant, n.endpoint, n.model, n.queued_at from head cross join lateral (
    select tenant, endpoint, model, queued_at from request
     where state = 'queued'
       and (tenant, endpoint, model) > (head.tenant, head.endpoint, head.model)
     order by tenant, endpoint, model, queued_at, seq limit 1) as n
)
select tenant, endpoint, model, queued_at from head;

-- The same of one tenant, and of at most so many groups.
create function queue_heads(of_tenant text, most int)
returns table (endpoint text, model text, queued_at timestamptz) language sql stable as $$
with recursive head as (
  (select endpoint, model, queued_at from request where state = 'queued' and tenant = of_tenant
    order by endpoint, model, queued_at, seq limit 1)
  union all
  select n.endpoint, n.model, n.queued_at from head cross join lateral (
    select endpoint, model, queued_at from request
     where state = 'queued' and tenant = of_tenant
       and (endpoint, model) > (head.endpoint, head.model)
     order by endpoint, model, queued_at, seq limit 1) as n
)
select endpoint, model, queued_at from head limit most $$;

-- The body as it is sent, in its caller's order, and the answer as OpenAI wrote it: raw bytes, never
-- decoded by the database. No foreign key: both rows are written and deleted by one statement.
create table payload (
  seq       bigint primary key,
  body      bytea not null,
  answer    bytea,
  realtime  numeric,                           -- USD of the answer in real time, if the price is known
  paid      numeric,                           -- and by batch, as it was when the answer came
  incomplete   boolean,                        -- whether something is charged that is not in there
  traceparent  text                            -- the caller's place in its trace, if it is sampled
);
-- Bodies are short-lived and already small: compressing them would cost the door more than
-- it saves the disk, but answers of images or embeddings are worth it.
alter table payload alter column body set storage external;

-- How often OpenAI may have executed a request: a batch that is not created yet does not count.
create function sendings(attempts int, batch_state text) returns int language sql immutable
return attempts - coalesce((batch_state in ('claimed', 'uploading', 'uploaded'))::int, 0);

-- What OpenAI's refusals teach about a model's enqueued-token limit. `told` is OpenAI's word, and
-- only OpenAI changes it. `lowered` is a guess: batches are refused below `told`, because others use
-- the account, or because our estimates are too low. A guess is tried again soon: it doubles with
-- each batch that OpenAI takes and with each ten minutes, until it is no longer below `told`.
create table model_limit (
  model       text primary key,
  told        bigint,                          -- null: OpenAI gave no number
  told_at     timestamptz,
  taken       bigint,                          -- more than that OpenAI has taken since, by estimate
  lowered     bigint,
  lowered_at  timestamptz,
  refusals    int not null default 0,          -- below `told`, in a row: paces the next try
  held_until  timestamptz not null default now(),
  held_for    text,                            -- OpenAI's code for why
  holds       int not null default 0,          -- in a row: each is twice as long as the one before
  -- After refusals that were about everything, one request is tried at a time, until OpenAI has
  -- `accepted` a batch or `answered` a request.
  probing     text check (probing in ('accepted', 'answered')),
  lines_until    timestamptz,                  -- until then a refusal is the fault of some line
  refused_alone  int not null default 0,       -- single requests in a row that were refused alike:
  refused_words  text,                         -- with this reason
  check ((told is null) = (told_at is null)),
  check ((lowered is null) = (lowered_at is null))
);

-- The guess at a time; null when there is none any more. 62 doublings are as good as none at all.
create function guess_at(l model_limit, at timestamptz) returns bigint language sql immutable
return case when l.lowered is not null then
  nullif(least(l.told, l.lowered::numeric * 2 ^ least(62, greatest(0,
         floor(extract(epoch from at - l.lowered_at) / 600))), 4e18)::bigint, l.told) end;

-- The limit to keep at a time.
create function limit_at(l model_limit, at timestamptz) returns bigint language sql immutable
return coalesce(guess_at(l, at), greatest(l.told, l.taken));

-- How far the estimates of a route are off: the tokens that OpenAI's `usage` counted in answers, and
-- what requests/tokens.py had estimated for the same calls. The last million or so counts, see learn_rate.
create table token_rate (
  endpoint   text not null,
  model      text not null,
  estimated  float8 not null check (estimated > 0),
  counted    float8 not null check (counted > 0),
  primary key (endpoint, model)
);

-- What an estimate of the route is to be multiplied with. As if 1,000 tokens had been estimated right
-- before, so that a few odd calls decide nothing. Bounds: 1/20 to 2 tokens a byte of text, of which the
-- estimate takes 4.
create function token_factor(of_endpoint text, of_model text) returns float8 language sql stable
return coalesce((select least(8, greatest(0.2, (counted + 1000) / (estimated + 1000)))
                   from token_rate where endpoint = of_endpoint and model = of_model), 1);

-- Input tokens of the model's batches that OpenAI has, or is about to have.
create function enqueued(of_model text) returns bigint language sql stable
return (select coalesce(sum(tokens * token_factor(endpoint, model)), 0)::bigint from batch
         where model = of_model
           and state in ('claimed', 'uploading', 'uploaded', 'creating', 'submitted'));

create table event (
  seq          bigint generated always as identity primary key,
  at           timestamptz not null default now(),
  request_seq  bigint,
  batch_id     uuid,
  old_state    text,
  new_state    text,
  note         text
);
create index event_by_request on event (request_seq) where request_seq is not null;
create index event_by_batch on event (batch_id) where request_seq is null;  -- its own events

-- Counts by state, as deltas: whoever changes rows only appends, so no two commits wait for
-- each other. `fold_tally` adds them up now and then; a reader sums a handful of rows. A 'batch' is
-- nobody's alone: its tenant is ''; an 'own_batch' counts once for each tenant that has a share.
create table tally (
  what    text not null,
  tenant  text not null default '',
  state   text not null,
  n       bigint not null
);

-- What the unfinished requests of a tenant may cost by their estimates, as deltas like `tally`.
create table reserve (
  tenant  text not null,
  usd     numeric not null
);

-- What was answered, hour by hour, and its price in USD. It outlives the requests: paid is paid.
-- `lost` answers were paid for and never came.
create table spending (
  tenant            text not null,
  hour              timestamptz not null,
  endpoint          text not null,
  model             text not null,
  answers           bigint not null default 0,
  unpriced          bigint not null default 0,  -- of these, answers of models without a known price
  incomplete        bigint not null default 0,  -- and those whose receipt leaves something out
  input_tokens      bigint not null default 0,
  cached_tokens     bigint not null default 0,  -- among the input
  output_tokens     bigint not null default 0,
  reasoning_tokens  bigint not null default 0,  -- among the output
  realtime          numeric not null default 0, -- what the answers would have cost in real time
  paid              numeric not null default 0, -- by batch, with what was paid and lost
  lost              numeric not null default 0, -- of that, for answers that never came
  assumed           numeric not null default 0, -- what budgets count for tokens without a price
  primary key (tenant, hour, endpoint, model)
);
create index spending_by_hour on spending (hour);

-- What failed for good, hour by hour and by reason, with the last one as an example.
create table failure (
  tenant       text not null,
  hour         timestamptz not null,
  endpoint     text not null,
  model        text not null,
  status_code  int not null,
  code         text not null,                  -- OpenAI's, '' where it gave none
  n            bigint not null,
  example      uuid not null,
  primary key (tenant, hour, endpoint, model, status_code, code)
);
create index failure_by_hour on failure (hour);

-- A tenant's wish that what is queued by now waits for no more requests.
create table flush (
  tenant  text primary key,
  at      timestamptz not null
);

-- When a tenant's program last got a finished answer, give or take a minute. What has finished since
-- is paid, and nobody has asked for it.
create table answer_read (
  tenant  text primary key,
  at      timestamptz not null
);

-- Whether a batch may be taken. A lease ends by time (its server is paused), or with the session in
-- which its server holds an advisory lock on its own number (it was killed).
create function is_free(lease_by int, lease_until timestamptz, at timestamptz) returns boolean
language sql stable
return lease_by is null or lease_until < at or not exists (
  select from pg_locks
   where locktype = 'advisory' and classid = 9487 and objid = lease_by::oid and granted
     and database = (select oid from pg_database where datname = current_database()));

-- Whether a batch has stood still for too long: in OpenAI's hands for longer than its window of 24
-- hours and an hour of grace, or in ours for an hour, which only a fault explains (or 2,000 creations
-- an hour that are not enough).
create function is_stuck(b batch, at timestamptz) returns boolean language sql immutable
return b.state <> 'closed' and coalesce(b.ended_at, b.submitted_at, b.created_at)
       < at - case when b.state = 'submitted' then interval '25 hours' else interval '1 hour' end;

create view shown_batch as
select b.id, b.state, b.endpoint, b.model, b.requests, b.upstream_id,
       b.upstream_status, b.upstream_completed, b.upstream_failed, b.completed, b.failed,
       b.requeued, b.cancelled, b.cancel_wished_at, b.tries, b.created_at, b.attempted_at, b.submitted_at, b.ended_at, b.closed_at,
       b.next_at, b.trouble, b.troubled_at, is_stuck(b, now()) as stuck
  from batch b;

-- A batch as one of its tenants sees it. `seq` is its place among that tenant's batches.
create view own_batch as
select s.tenant, v.*, s.requests as own_requests, s.completed as own_completed,
       s.failed as own_failed, s.requeued as own_requeued, s.cancelled as own_cancelled, s.seq
  from share s join shown_batch v on v.id = s.batch_id;

-- A batch as whoever sees all tenants does: its tenant is ''.
create view whole_batch as
select '' as tenant, v.*, v.requests as own_requests, v.completed as own_completed,
       v.failed as own_failed, v.requeued as own_requeued, v.cancelled as own_cancelled, s.seq
  from share s join shown_batch v on v.id = s.batch_id
 where s.leads;

create view tenant_batch as select * from own_batch union all select * from whole_batch;

create function request_inserted() returns trigger language plpgsql
set search_path = openaibatching as $$
begin
  insert into event (request_seq, new_state) select seq, state from new_rows;
  insert into tally select 'request', tenant, state, count(*) from new_rows group by tenant, state;
  insert into reserve
    select tenant, sum(estimate) from new_rows where estimate is not null group by tenant;
  return null;
end $$;

-- A session plans a trigger's statements once, for as many rows as changed the first time: the plan
-- for one row, a nested loop, would take minutes for the 50,000 rows of a batch.
create function request_updated() returns trigger language plpgsql
set search_path = openaibatching set enable_nestloop = off as $$
begin
  insert into event (request_seq, batch_id, old_state, new_state)
    select n.seq, n.batch_id, o.state, n.state
      from new_rows n join old_rows o using (seq) where n.state <> o.state;
  insert into tally
    select 'request', tenant, state, sum(n) from (
      select tenant, state, 1 as n from new_rows
      union all select tenant, state, -1 from old_rows) as moved
     group by tenant, state having sum(n) <> 0;
  if exists (select from new_rows where estimate is not null) then
    insert into reserve
      select tenant, sum(usd) from (
        select tenant, estimate as usd from new_rows where finished_at is null
        union all select tenant, -estimate from old_rows where finished_at is null) as moved
       where usd is not null group by tenant having sum(usd) <> 0;
  end if;
  -- No statement changes what has finished already, so old rows need not be asked.
  if exists (select from new_rows where finished_at is not null) then
    perform pg_notify('openaibatching', 'finished');
  end if;
  return null;
end $$;

create function request_deleted() returns trigger language plpgsql
set search_path = openaibatching as $$
begin
  delete from payload using old_rows where payload.seq = old_rows.seq;
  delete from event using old_rows where event.request_seq = old_rows.seq;
  insert into tally select 'request', tenant, state, -count(*) from old_rows group by tenant, state;
  return null;
end $$;

create function batch_inserted() returns trigger language plpgsql
set search_path = openaibatching as $$
begin
  insert into event (batch_id, new_state) select id, state from new_rows;
  insert into tally select 'batch', '', state, count(*) from new_rows group by state;
  perform pg_notify('openaibatching', state) from (select distinct state from new_rows) as s;
  return null;
end $$;

create function share_inserted() returns trigger language plpgsql
set search_path = openaibatching as $$
begin
  insert into tally
    select 'own_batch', n.tenant, b.state, count(*)
      from new_rows n join batch b on b.id = n.batch_id group by n.tenant, b.state;
  return null;
end $$;

create function batch_updated() returns trigger language plpgsql
set search_path = openaibatching as $$
begin
  insert into event (batch_id, old_state, new_state, note)
    select n.id, o.state, n.state, n.upstream_status
      from new_rows n join old_rows o using (id) where n.state <> o.state;
  insert into tally
    select 'batch', '', state, sum(n) from (
      select state, 1 as n from new_rows union all select state, -1 from old_rows) as moved
     group by state having sum(n) <> 0;
  insert into tally
    select 'own_batch', s.tenant, moved.state, sum(moved.n) from (
      select n.id, n.state, 1 as n from new_rows n join old_rows o using (id) where n.state <> o.state
      union all
      select o.id, o.state, -1 from new_rows n join old_rows o using (id) where n.state <> o.state)
      as moved join share s on s.batch_id = moved.id
     group by s.tenant, moved.state having sum(moved.n) <> 0;
  perform pg_notify('openaibatching', state) from (
    select distinct n.state from new_rows n join old_rows o using (id)
     where n.state <> o.state) as s;
  return null;
end $$;

create function batch_deleted() returns trigger language plpgsql
set search_path = openaibatching as $$
begin
  delete from event using old_rows where event.batch_id = old_rows.id and request_seq is null;
  insert into tally
    select 'own_batch', s.tenant, o.state, -count(*)
      from old_rows o join share s on s.batch_id = o.id group by s.tenant, o.state;
  delete from share using old_rows where share.batch_id = old_rows.id;
  insert into tally select 'batch', '', state, -count(*) from old_rows group by state;
  return null;
end $$;

create function flush_wished() returns trigger language plpgsql as $$
begin
  perform pg_notify('openaibatching', 'queued');
  return null;
end $$;

create trigger inserted after insert on request referencing new table as new_rows
  for each statement execute function request_inserted();
create trigger updated after update on request referencing old table as old_rows new table as new_rows
  for each statement execute function request_updated();
create trigger deleted after delete on request referencing old table as old_rows
  for each statement execute function request_deleted();
create trigger inserted after insert on batch referencing new table as new_rows
  for each statement execute function batch_inserted();
create trigger inserted after insert on share referencing new table as new_rows
  for each statement execute function share_inserted();
create trigger updated after update on batch referencing old table as old_rows new table as new_rows
  for each statement execute function batch_updated();
create trigger deleted after delete on batch referencing old table as old_rows
  for each statement execute function batch_deleted();
create trigger wished after insert or update on flush
  for each statement execute function flush_wished();

insert into meta (version) values (1);
