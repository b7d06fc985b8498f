-- Stores label sets of one entity and bucket, each unless a newer one is there.
-- KEYS: facts of the bucket, records of the entity in it
-- ARGV: state, epoch, commit that the host has seen there, commit of these sets, repair (0 or 1), begin of the names of sets
--       of members, name of the entity, then key and record, again and again
-- Returns 'ok', 'lost', 'foreign' with the state or 'newer' with the epoch that is there.
local facts = redis.call('HMGET', KEYS[1], 'state', 'epoch', 'commit')
local epoch, commit = tonumber(ARGV[2]), tonumber(ARGV[4])
if not facts[1] then return {'lost', ''} end
if facts[1] ~= ARGV[1] then return {'foreign', facts[1]} end
local held = tonumber(facts[2])
if held > epoch then return {'newer', facts[2]} end
local last = tonumber(facts[3]) or 0
if held < epoch or last < tonumber(ARGV[3]) then return {'lost', ''} end

local noted = {}
local function note(name)
  if not noted[name] then
    noted[name] = true
    redis.call('HSETNX', KEYS[1], name, 1)
  end
end
local function set_of(label, value)
  if value == true then return label end
  return label .. '=' .. value
end
local function labels_of(record)
  local read, found = pcall(cjson.decode, record)
  if read and type(found) == 'table' and type(found.labels) == 'table' then return found.labels end
  return {}
end

note('records:' .. ARGV[7])
for i = 8, #ARGV, 2 do
  local key, record = ARGV[i], ARGV[i + 1]
  local old = redis.call('HGET', KEYS[2], key)
  local is_newer, was = true, {}
  if old then
    local e, c = string.match(old, '^{"v":%[(%d+),(%d+)%]')
    if e then
      e, c = tonumber(e), tonumber(c)
      is_newer = e < epoch or (e == epoch and c <= commit)
    end
    if is_newer then was = labels_of(old) end
  end
  if is_newer then
    local now = labels_of(record)
    -- The record comes last: what breaks off before it is done again.
    for label, value in pairs(was) do
      if now[label] ~= value then redis.call('SREM', ARGV[6] .. set_of(label, value), key) end
    end
    for label, value in pairs(now) do
      if was[label] ~= value or ARGV[5] == '1' then
        local set = set_of(label, value)
        note('members:' .. ARGV[7] .. ':' .. set)
        redis.call('SADD', ARGV[6] .. set, key)
      end
    end
    redis.call('HSET', KEYS[2], key, record)
  end
end
if commit > last then redis.call('HSET', KEYS[1], 'commit', ARGV[4]) end
return {'ok', ''}
