-- What OpenAI's refusals teach about a model: `model_limit` is explained in schema.sql.

-- name: hold_model
-- None of its batches is formed for a while.
insert into model_limit (model, held_until, held_for)
values (%(model)s::text, coalesce(%(now)s::timestamptz, now()) + %(hold)s::interval, %(why)s::text)
on conflict (model) do update set held_until = excluded.held_until, held_for = excluded.held_for;

-- name: learn_limit
-- OpenAI's number is the truth, a larger one as well: the account may have moved to another tier.
update model_limit
   set told = %(tokens)s::bigint, told_at = coalesce(%(now)s::timestamptz, now())
 where model = %(model)s::text;

-- name: lower_limit
update model_limit
   set lowered = %(tokens)s::bigint, lowered_at = coalesce(%(now)s::timestamptz, now())
 where model = %(model)s::text;

-- name: raise_limit
-- OpenAI took a batch that is larger than the limit: by our estimates it is at least so large.
update model_limit
   set told = case when told is not null then greatest(told, %(tokens)s::bigint) end,
       lowered = case when lowered is not null then greatest(lowered, %(tokens)s::bigint) end
 where model = %(model)s::text and least(told, lowered) < %(tokens)s::bigint
returning model;
