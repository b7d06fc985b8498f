-- Takes records of one entity and bucket away, each if it is still the one that was seen.
-- KEYS: records of the entity in the bucket
-- ARGV: key and record, again and again
-- Returns how many were.
local dropped = 0
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    dropped = dropped + redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
return dropped
