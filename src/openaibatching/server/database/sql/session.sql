-- How every session of ours is set up.
set search_path = openaibatching;

-- A server that is paused in the middle of a transaction must not hold up the others.
set idle_in_transaction_session_timeout = '10s';

-- Not the database's or role's own: each statement acts on what others have committed before it.
set default_transaction_isolation = 'read committed';

-- One plan for each statement. Left alone, PostgreSQL compares the first five executions: if these had
-- one id each, it plans every later execution anew, which takes longer than the execution itself.
set plan_cache_mode = force_generic_plan;

-- Such a plan may be made while a table is empty, and kept until the table has thousands of rows: it
-- must use the indexes from the beginning. A table without a fitting index is still read.
set enable_seqscan = off;

-- A statement that has to read a table after all then seems to cost 1e10: enough to compile it.
set jit = off;
