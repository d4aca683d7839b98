-- What the page shows besides what the API says. Nothing here changes a row.

-- name: read_excerpts
-- The beginnings of a request's body and answer, and how long they are: an answer may be tens of
-- megabytes, and nobody reads it on a page.
select substring(body from 1 for %(bytes)s::int) as body, octet_length(body) as body_bytes,
       substring(answer from 1 for %(bytes)s::int) as answer, octet_length(answer) as answer_bytes
  from payload where seq = %(seq)s::bigint;

-- name: batch_events
-- A batch's own story, oldest first.
select at, old_state, new_state, note from event
 where batch_id = %(batch_id)s::uuid and request_seq is null
 order by seq limit %(limit)s::int;
