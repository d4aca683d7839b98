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
