-- What the page shows besides what the API says. Nothing here changes a row.

-- name: read_excerpts
-- The beginnings of a request's body and answer, and how long they are: an answer may be tens of
-- megabytes, and nobody reads it on a page. While it is queued again, the answer is its last failure.
select substring(b.body from 1 for %(bytes)s::int) as body, octet_length(b.body) as body_bytes,
       substring(coalesce(v.answer, v.failure) from 1 for %(bytes)s::int) as answer,
       octet_length(coalesce(v.answer, v.failure)) as answer_bytes
  from shown_request v cross join lateral (select body from body where body.seq = v.seq offset 0) as b
 where v.seq = %(seq)s::bigint and v.tenant = %(tenant)s::text;

-- name: batch_events
-- A batch's own story, oldest first.
select at, old_state, new_state, note from event
 where batch_id = %(batch_id)s::uuid and request_seq is null
 order by seq limit %(limit)s::int;
