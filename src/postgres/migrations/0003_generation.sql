-- Tells every server that what is counted under an earlier number does not hold any more.
create function counter_generation_notify() returns trigger language plpgsql as $$
begin
  perform pg_notify('tollgate', 'generation');
  return null;
end $$;

create trigger counter_generation_changed_notify after update on counter_generation
  for each row when (old.generation <> new.generation) execute function counter_generation_notify();
