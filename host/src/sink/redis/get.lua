-- Records of keys of one entity and bucket.
-- KEYS: records of the entity in the bucket
-- ARGV: begin of the names of sets of members, then keys
-- Returns for every key its record (false = none) and whether the sets of members agree with it (0 or 1).
local found = {}
for i = 2, #ARGV do
  local record = redis.call('HGET', KEYS[1], ARGV[i])
  local agrees = 1
  if record then
    local read, set = pcall(cjson.decode, record)
    if read and type(set) == 'table' and type(set.labels) == 'table' then
      for label, value in pairs(set.labels) do
        if value ~= true then label = label .. '=' .. value end
        if redis.call('SISMEMBER', ARGV[1] .. label, ARGV[i]) == 0 then agrees = 0 end
      end
    end
  end
  found[#found + 1] = record
  found[#found + 1] = agrees
end
return found
