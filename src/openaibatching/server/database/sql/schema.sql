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
-- What a request is and what has become of it is told in schema_requests.sql. History (`event`) and
-- counts (`tally`) of batches are written by statement-level triggers, so no code can forget them. What
-- it cost (`spending`) and what went wrong (`failure`) are added up by the transaction that stores the
-- results, so each counts once. Every transition of a batch, and every end of a request, is announced
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
create index batch_by_turn on batch (state, next_at) where state <> 'closed';  -- take_batch, due_states
create index batch_by_parent on batch (parent_id) where parent_id is not null;  -- read_sibling
create index batch_by_attempt on batch (attempted_at);  -- creates_last_hour, read_creations
create index batch_by_end on batch (closed_at) where state = 'closed';  -- forget_batches
create index batch_by_duration on batch (ended_at)  -- read_history, model_works
  where upstream_status = 'completed';

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
create index share_by_batch on share (batch_id);  -- read_shares, find_batch, wish_cancel
create unique index share_leading on share (seq) where leads;  -- list_batches of all tenants

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

-- What happened to batches, each step; and to requests what is no ordinary step: that one was queued
-- again, and what had become of it before. The ordinary story of a request is read off its rows and
-- those of its batches (list_events).
create table event (
  seq          bigint generated always as identity primary key,
  at           timestamptz not null default now(),
  request_seq  bigint,
  batch_id     uuid,
  old_state    text,
  new_state    text,
  note         text
);
create index event_by_request on event (request_seq) where request_seq is not null;  -- list_events
create index event_by_batch on event (batch_id) where request_seq is null;  -- its own: batch_events

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
create index spending_by_hour on spending (hour);  -- sum_spending, read_commitments

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
create index failure_by_hour on failure (hour);  -- sum_failures

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
