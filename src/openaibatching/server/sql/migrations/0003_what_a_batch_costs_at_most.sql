-- Version 3: what is sent costs at most so much, where a budget is set (schema.sql, form.py).

set local search_path = openaibatching;

alter table request add column usd_most numeric;
alter table share add column usd_most numeric not null default 'infinity';
