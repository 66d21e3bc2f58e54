-- The names of the corrected contract. A new name has the number of the one that it replaces, so numbers stay.
update user_account set roles = array_replace(roles, 'SERVICE', 'BOT') where 'SERVICE' = any (roles);

update quota set
  service = case service
    when 'REGISTRY' then 'STOCK'
    when 'CLUSTERING' then 'CLUSTER'
    when 'DELIVERY' then 'LONGHAUL'
    when 'FIELDSERVICE' then 'CARGOTIMETABLE'
    else service
  end,
  method_group = case method_group when 'CLUSTER' then 'REFINE' else method_group end
where service in ('REGISTRY', 'CLUSTERING', 'DELIVERY', 'FIELDSERVICE') or method_group = 'CLUSTER';

-- Data.Flow: 0 is UNSPECIFIED now, and INPUT is 2.
update data_file set flow = 2 where flow = 0;
