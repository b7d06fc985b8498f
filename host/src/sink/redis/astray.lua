-- Members of a set whose record does not carry its label.
-- KEYS: records of the entity in the bucket, set of members
-- ARGV: label, value ('' = a flag), take them out (0 or 1), then members
-- Returns those members.
local astray = {}
for i = 4, #ARGV do
  local record = redis.call('HGET', KEYS[1], ARGV[i])
  local carried
  if record then
    local read, set = pcall(cjson.decode, record)
    if read and type(set) == 'table' and type(set.labels) == 'table' then carried = set.labels[ARGV[1]] end
  end
  local is_right = carried == ARGV[2] or (carried == true and ARGV[2] == '')
  if not is_right then
    astray[#astray + 1] = ARGV[i]
    if ARGV[3] == '1' then redis.call('SREM', KEYS[2], ARGV[i]) end
  end
end
return astray
