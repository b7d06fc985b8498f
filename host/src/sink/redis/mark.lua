-- Says of a bucket whose it is, and whether it is whole.
-- KEYS: facts of the bucket
-- ARGV: state, epoch, number of buckets, whole (0 = a fill begins, 1 = it has ended)
-- Returns 'ok' (with 'empty' where nothing is recorded in the bucket), 'lost', 'foreign' with the state or 'newer' with the
-- epoch that is there.
local facts = redis.call('HMGET', KEYS[1], 'state', 'epoch')
if facts[1] and facts[1] ~= ARGV[1] then return {'foreign', facts[1]} end
if facts[2] and tonumber(facts[2]) > tonumber(ARGV[2]) then return {'newer', facts[2]} end
if ARGV[4] == '1' and facts[2] ~= ARGV[2] then return {'lost', ''} end
if facts[2] and facts[2] ~= ARGV[2] then redis.call('HDEL', KEYS[1], 'commit') end
redis.call('HSET', KEYS[1], 'state', ARGV[1], 'epoch', ARGV[2], 'buckets', ARGV[3], 'whole', ARGV[4])
local found = 'empty'
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.find(name, '^records:') or string.find(name, '^members:') then found = '' end
end
return {'ok', found}
