-- Version 2: what it costs, whose batches they are, keys, and progress.
--
-- What was answered before has no receipt: its answers are there, but nobody has added them up.
-- Counts and shares are made from the requests, which takes seconds with millions of them.
-- Each statement is explained in schema.sql.

set local search_path = openaibatching;

alter table batch
  add column trouble text,
  add column troubled_at timestamptz,
  add column upstream_completed int not null default 0,
  add column upstream_failed int not null default 0,
  add column input_tokens bigint,
  add column cached_tokens bigint,
  add column output_tokens bigint,
  add column reasoning_tokens bigint;
alter table request add column estimate numeric;
alter table model_limit add column held_for text;
alter table payload add column realtime numeric, add column traceparent text;
create index batch_by_duration on batch (ended_at) where upstream_status = 'completed';

create table share (
  tenant    text not null,
  seq       bigint generated always as identity,
  batch_id  uuid not null,
  requests  int not null check (requests > 0),
  primary key (tenant, seq)
);
create index share_by_batch on share (batch_id);
insert into share (tenant, batch_id, requests)
  select r.tenant, b.id, count(*)
    from batch b join request r on r.batch_id = b.id
   group by r.tenant, b.id, b.created_at
   order by b.created_at;

delete from tally where what = 'request';
alter table tally add column tenant text not null default '';
insert into tally (what, tenant, state, n)
  select 'request', tenant, state, count(*) from request group by tenant, state;

create table reserve (
  tenant  text not null,
  usd     numeric not null
);

create table spending (
  tenant            text not null,
  hour              timestamptz not null,
  endpoint          text not null,
  model             text not null,
  answers           bigint not null default 0,
  unpriced          bigint not null default 0,
  input_tokens      bigint not null default 0,
  cached_tokens     bigint not null default 0,
  output_tokens     bigint not null default 0,
  reasoning_tokens  bigint not null default 0,
  realtime          numeric not null default 0,
  paid              numeric not null default 0,
  lost              numeric not null default 0,
  primary key (tenant, hour, endpoint, model)
);
create index spending_by_hour on spending (hour);

create table failure (
  tenant       text not null,
  hour         timestamptz not null,
  endpoint     text not null,
  model        text not null,
  status_code  int not null,
  code         text not null,
  n            bigint not null,
  example      uuid not null,
  primary key (tenant, hour, endpoint, model, status_code, code)
);
create index failure_by_hour on failure (hour);

create table flush (
  tenant  text primary key,
  at      timestamptz not null
);

create table api_key (
  id            uuid primary key default gen_random_uuid(),
  tenant        text not null check (tenant ~ '^[A-Za-z0-9._-]{1,64}$'),
  name          text not null,
  hint          text not null,
  digest        bytea not null unique check (octet_length(digest) = 32),
  created_at    timestamptz not null default now(),
  last_used_at  timestamptz,
  revoked_at    timestamptz
);

create function is_stuck(b batch, at timestamptz) returns boolean language sql immutable
return b.state <> 'closed' and coalesce(b.ended_at, b.submitted_at, b.created_at)
       < at - case when b.state = 'submitted' then interval '25 hours' else interval '1 hour' end;


create view tenant_batch as
select s.tenant, b.id, b.state, b.endpoint, b.model, b.requests, s.requests as own_requests, b.upstream_id,
       b.upstream_status, b.upstream_completed, b.upstream_failed, b.completed, b.failed,
       b.requeued, b.tries, b.created_at, b.attempted_at, b.submitted_at, b.ended_at, b.closed_at,
       b.next_at, b.trouble, b.troubled_at, is_stuck(b, now()) as stuck, s.seq
  from share s join batch b on b.id = s.batch_id;


create or replace function request_inserted() returns trigger language plpgsql
set search_path = openaibatching as $$
begin
  insert into event (request_seq, new_state) select seq, state from new_rows;
  insert into tally select 'request', tenant, state, count(*) from new_rows group by tenant, state;
  insert into reserve
    select tenant, sum(estimate) from new_rows where estimate is not null group by tenant;
  return null;
end $$;

create or replace function request_updated() returns trigger language plpgsql
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
  if exists (select from new_rows where finished_at is not null) then
    perform pg_notify('openaibatching', 'finished');
  end if;
  return null;
end $$;

create or replace function request_deleted() returns trigger language plpgsql
set search_path = openaibatching as $$
begin
  delete from payload using old_rows where payload.seq = old_rows.seq;
  delete from event using old_rows where event.request_seq = old_rows.seq;
  insert into tally select 'request', tenant, state, -count(*) from old_rows group by tenant, state;
  return null;
end $$;

create or replace function batch_inserted() returns trigger language plpgsql
set search_path = openaibatching as $$
begin
  insert into event (batch_id, new_state) select id, state from new_rows;
  insert into tally select 'batch', '', state, count(*) from new_rows group by state;
  perform pg_notify('openaibatching', state) from (select distinct state from new_rows) as s;
  return null;
end $$;

create or replace function batch_updated() returns trigger language plpgsql
set search_path = openaibatching as $$
begin
  insert into event (batch_id, old_state, new_state, note)
    select n.id, o.state, n.state, n.upstream_status
      from new_rows n join old_rows o using (id) where n.state <> o.state;
  insert into tally
    select 'batch', '', state, sum(n) from (
      select state, 1 as n from new_rows union all select state, -1 from old_rows) as moved
     group by state having sum(n) <> 0;
  perform pg_notify('openaibatching', state) from (
    select distinct n.state from new_rows n join old_rows o using (id)
     where n.state <> o.state) as s;
  return null;
end $$;

create or replace function batch_deleted() returns trigger language plpgsql
set search_path = openaibatching as $$
begin
  delete from event using old_rows where event.batch_id = old_rows.id and request_seq is null;
  delete from share using old_rows where share.batch_id = old_rows.id;
  insert into tally select 'batch', '', state, -count(*) from old_rows group by state;
  return null;
end $$;

create or replace function keys_changed() returns trigger language plpgsql as $$
begin
  if tg_op <> 'UPDATE' or new.revoked_at is distinct from old.revoked_at then
    perform pg_notify('openaibatching', 'keys');
  end if;
  return null;
end $$;

create or replace function flush_wished() returns trigger language plpgsql as $$
begin
  perform pg_notify('openaibatching', 'queued');
  return null;
end $$;

create trigger changed after insert or update or delete on api_key
  for each row execute function keys_changed();
create trigger wished after insert or update on flush
  for each statement execute function flush_wished();
