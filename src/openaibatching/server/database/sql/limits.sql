-- What OpenAI's refusals teach about a model: `model_limit` is explained in schema.sql.

-- name: hold_model
-- None of its batches is formed for a while.
insert into model_limit (model, held_until, held_for)
values (%(model)s::text, coalesce(%(now)s::timestamptz, now()) + %(hold)s::interval, %(why)s::text)
on conflict (model) do update set held_until = excluded.held_until, held_for = excluded.held_for;

-- name: hold_longer
-- Twice as long as the last time, if that was in vain; a hold that runs already stays as it is.
insert into model_limit as l (model, held_until, held_for, holds, probing)
values (%(model)s::text, coalesce(%(now)s::timestamptz, now()) + %(hold)s::interval, %(why)s::text, 1,
        %(probing)s::text)
on conflict (model) do update
   set held_until = case when l.held_until > coalesce(%(now)s::timestamptz, now()) then l.held_until
                         else coalesce(%(now)s::timestamptz, now())
                              + least(%(hold)s::interval * 2 ^ least(l.holds, 20), %(most)s::interval)
                    end,
       holds = l.holds + (l.held_until <= coalesce(%(now)s::timestamptz, now()))::int,
       held_for = excluded.held_for, probing = coalesce(excluded.probing, l.probing);

-- name: read_trust
-- What refusals without a line mean for this model now.
select probing is not null as probing, refused_alone, refused_words,
       coalesce(lines_until > coalesce(%(now)s::timestamptz, now()), false) as lines_at_fault
  from model_limit where model = %(model)s::text;

-- name: model_works
select exists (select from batch
                where model = %(model)s::text and upstream_status = 'completed'
                  and ended_at > coalesce(%(now)s::timestamptz, now()) - interval '1 day');

-- name: refused_alone
-- A single request was refused, without a reason that is about more than itself.
insert into model_limit as l (model, refused_alone, refused_words)
values (%(model)s::text, 1, %(words)s::text)
on conflict (model) do update
   set refused_alone = case when l.refused_words = excluded.refused_words
                            then l.refused_alone + 1 else 1 end,
       refused_words = excluded.refused_words;

-- name: note_accepted
-- OpenAI's validation has let one of its batches pass: what it refuses now is refused for its lines.
update model_limit
   set refused_alone = 0, refused_words = null,
       lines_until = case when probing = 'accepted'
                          then coalesce(%(now)s::timestamptz, now()) + %(trust)s::interval
                          else lines_until end,
       holds = case when probing = 'accepted' then 0 else holds end,
       probing = nullif(probing, 'accepted')
 where model = %(model)s::text and (refused_alone > 0 or probing = 'accepted');

-- name: note_answered
-- One of its batches was answered without a word about the account: that trouble is over.
update model_limit set holds = 0, probing = nullif(probing, 'answered')
 where model = %(model)s::text and (holds > 0 or probing = 'answered');

-- name: learn_limit
-- OpenAI's number is the truth, a larger one as well: the account may have moved to another tier.
insert into model_limit as l (model, told, told_at, held_until)
values (%(model)s::text, %(tokens)s::bigint, coalesce(%(now)s::timestamptz, now()),
        coalesce(%(now)s::timestamptz, now()))
on conflict (model) do update
   set told = excluded.told, told_at = excluded.told_at,
       taken = case when l.told = excluded.told then l.taken end;

-- name: lower_limit
-- More than this was refused although OpenAI's number allows it. Gives how often in a row.
insert into model_limit as l (model, lowered, lowered_at, refusals, held_until)
values (%(model)s::text, %(tokens)s::bigint, coalesce(%(now)s::timestamptz, now()), 1,
        coalesce(%(now)s::timestamptz, now()))
on conflict (model) do update
   set lowered = excluded.lowered, lowered_at = excluded.lowered_at, refusals = l.refusals + 1
returning refusals;

-- name: count_refusal
-- One more, if OpenAI has taken nothing since the last.
update model_limit set refusals = refusals + 1
 where model = %(model)s::text and refusals > 0 returning refusals;

-- name: free_lone
-- OpenAI takes batches again, after refusing all of them: that requests were refused alone meanwhile
-- says little about them. Those that were refused more often keep their pause.
update queued
   set lone = null,
       queued_at = case when lone_refusals > 3 then queued_at
                        else least(queued_at, coalesce(%(now)s::timestamptz, now())) end
 where lone and route_id in (select id from route where model = %(model)s::text)
   and exists (select from model_limit l where l.model = %(model)s::text and l.refusals > 0);

-- name: raise_limit
-- OpenAI took a batch: the guess doubles, and what is larger than its number has fitted at least once.
update model_limit l
   set refusals = 0,
       taken = case when l.told < weighed.tokens then greatest(l.taken, weighed.tokens)
                    else l.taken end,
       lowered = case when 2 * known.guess < coalesce(l.told, 4e18) then 2 * known.guess end,
       lowered_at = case when 2 * known.guess < coalesce(l.told, 4e18)
                         then coalesce(%(now)s::timestamptz, now()) end
  from (select (tokens * token_factor(endpoint, model))::bigint as tokens
          from batch where id = %(id)s::uuid) as weighed,
       (select guess_at(m, coalesce(%(now)s::timestamptz, now()))::numeric as guess
          from model_limit m where m.model = %(model)s::text) as known
 where l.model = %(model)s::text
   and (l.lowered is not null or l.refusals > 0 or greatest(l.told, l.taken) < weighed.tokens)
returning limit_at(l, coalesce(%(now)s::timestamptz, now()));

-- name: weigh_batch
-- The tokens of a refused batch, and of the model's others at OpenAI.
select (tokens * token_factor(endpoint, model))::bigint as tokens, enqueued(model) as others
  from batch where id = %(id)s::uuid;

-- name: learn_rate
-- Of answers whose usage OpenAI told. Older ones count half with each million tokens.
insert into token_rate as t (endpoint, model, estimated, counted)
select %(endpoint)s::text, %(model)s::text, sum(r.tokens), %(counted)s::bigint
  from unnest(%(ids)b::uuid[]) as given(id)
 cross join lateral (select tokens from request where request.id = given.id offset 0) as r
having sum(r.tokens) > 0
on conflict (endpoint, model) do update
   set estimated = t.estimated * case when t.estimated > 1e6 then 0.5 else 1 end + excluded.estimated,
       counted = t.counted * case when t.estimated > 1e6 then 0.5 else 1 end + excluded.counted;

-- name: refuse_alone
-- The request of a batch was refused as the only one: what is known of it by now.
with counted as (
  update sent s
     set lone_refusals = coalesce(s.lone_refusals, 0) + 1,
         lone_since = coalesce(s.lone_since, %(now)s::timestamptz, now())
    from request r
   where r.id = %(id)s::uuid and s.tenant = r.tenant and s.seq = r.seq
  returning r.seq, r.tokens, r.route_id, s.lone_refusals, s.lone_since
)
select c.lone_refusals as refusals, c.lone_since as since,
       coalesce(%(now)s::timestamptz, now()) as now,
       (c.tokens * least(1, token_factor(w.endpoint, w.model)))::bigint as estimate, b.body
  from counted c join route w on w.id = c.route_id join body b on b.seq = c.seq;

-- name: defer_request
-- Not before the pause is over, and then alone: in its batch still, or queued again already.
with of as materialized (
  select seq, tenant, coalesce(%(now)s::timestamptz, now()) + %(wait)s::interval as until
    from request where id = %(id)s::uuid
), in_batch as (
  update sent s set queued_at = of.until, lone = true
    from of where s.tenant = of.tenant and s.seq = of.seq
)
update queued q set queued_at = of.until, lone = true
  from of where q.tenant = of.tenant and q.seq = of.seq;

-- name: find_lone
-- A request that is to be sent alone, and whose pause is over.
select seq, line_bytes, tokens, inputs, tenant, estimate::float8 as usd,
       usd_most::float8 as usd_most
  from queued
 where lone and route_id = (select id from route
                             where endpoint = %(endpoint)s::text and model = %(model)s::text)
   and tenant <> all(%(held_back)b::text[])
   and queued_at <= coalesce(%(now)s::timestamptz, now())
 order by queued_at, seq limit 1;
