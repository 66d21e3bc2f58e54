-- A user who moves in the middle of a day has used some of it in each company. What is there was counted for the company
-- that was first on its day, and stays so.
alter table usage_day drop constraint usage_day_pkey;
alter table usage_day add primary key (user_id, date, service, method_group, company_key);
