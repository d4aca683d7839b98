-- Who may do what: the part of the schema beside schema.sql, which it follows.

set search_path = openaibatching;

-- Keys that callers present, beside those of BATCH_SERVER_API_KEY. A key is random and long, so its
-- SHA-256 is as good as a slow hash. Any change is announced, and every server reads them anew.
create table api_key (
  id            uuid primary key default gen_random_uuid(),
  tenant        text not null check (tenant ~ '^[A-Za-z0-9._-]{1,64}$'),
  name          text not null,
  scope         text not null default 'submit' check (scope in ('submit', 'read', 'metrics', 'admin')),
  hint          text not null,                 -- its first characters, to tell it by
  digest        bytea not null unique check (octet_length(digest) = 32),
  created_at    timestamptz not null default now(),
  last_used_at  timestamptz,
  expires_at    timestamptz,
  revoked_at    timestamptz                    -- may lie ahead: the old key of a rotated one
);

-- When a key ends or has ended; null: it does not.
create function key_end(k api_key) returns timestamptz language sql immutable
return least(k.revoked_at, k.expires_at);

create function keys_changed() returns trigger language plpgsql as $$
begin
  if tg_op <> 'UPDATE' or new.revoked_at is distinct from old.revoked_at then
    perform pg_notify('openaibatching', 'keys');
  end if;
  return null;
end $$;

create trigger changed after insert or update or delete on api_key
  for each row execute function keys_changed();

-- Sessions of the page. `digest` is the SHA-256 of the random token in the cookie. `proof` is an HMAC
-- of the digest of a configured key, made with that token: neither the cookie nor this table alone
-- lets anybody guess a key.
create table page_session (
  digest      bytea primary key check (octet_length(digest) = 32),
  tenant      text not null,
  key_id      uuid,                            -- null: a key of BATCH_SERVER_API_KEY
  proof       bytea not null,
  created_at  timestamptz not null default now(),
  ends_at     timestamptz not null
);
create index page_session_by_tenant on page_session (tenant, created_at);  -- trim_sessions
create index page_session_by_end on page_session (ends_at);  -- forget_sessions

-- Who did what: sign-ins, keys that are none, changes of keys, what was deleted, cancelled, retried or
-- flushed. Written in the transaction of the deed; kept for 90 days.
create table audit (
  seq         bigint generated always as identity primary key,
  at          timestamptz not null default now(),
  action      text not null,
  tenant      text,
  key_name    text,
  address     text,                            -- of the caller; 'local': a command on the database
  request_id  text,
  target      text,                            -- what was changed
  n           bigint not null default 1        -- how often, or how many requests
);
create index audit_by_time on audit (at);  -- forget_audit, read_audit
