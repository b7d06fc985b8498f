-- Stores label sets of one entity, bucket and commit, each unless a newer one is there.
-- KEYS: facts of the bucket, records of the entity in it
-- ARGV: state, epoch, commit that the host has seen there, commit of these sets, repair (0 or 1), begin of the names of sets
--       of members, name of the entity, how many different labels there are, these as JSON, then key (each once) and number of
--       its labels, again and again
-- Returns 'ok' (with 'found' where something lay here that the bucket's facts did not know of), 'lost', 'foreign' with the
-- state or 'newer' with the epoch that is there.
local facts = redis.call('HMGET', KEYS[1], 'state', 'epoch', 'commit')
local epoch, commit = tonumber(ARGV[2]), tonumber(ARGV[4])
if not facts[1] then return {'lost', ''} end
if facts[1] ~= ARGV[1] then return {'foreign', facts[1]} end
local held = tonumber(facts[2])
if held > epoch then return {'newer', facts[2]} end
local last = tonumber(facts[3]) or 0
if held < epoch or last < tonumber(ARGV[3]) then return {'lost', ''} end

-- The sets of members that labels stand for, by the labels' text: few are different.
local read = {['{}'] = {}}
local function sets_of(text)
  local sets = read[text]
  if not sets then
    sets = {}
    local is_json, labels = pcall(cjson.decode, text)
    if is_json and type(labels) == 'table' then
      for label, value in pairs(labels) do
        sets[value == true and label or label .. '=' .. tostring(value)] = true
      end
    end
    read[text] = sets
  end
  return sets
end
-- Keys by set, to be taken out and put in.
local out, into = {}, {}
local function add(groups, set, key)
  local group = groups[set]
  if not group then
    group = {}
    groups[set] = group
  end
  group[#group + 1] = key
end

local first = 9 + tonumber(ARGV[8])
local begin = '{"v":[' .. ARGV[2] .. ',' .. ARGV[4] .. '],"labels":'
local records = {}
for number = 1, tonumber(ARGV[8]) do records[number] = begin .. ARGV[8 + number] .. '}' end
local keys = {}
for i = first, #ARGV, 2 do keys[#keys + 1] = ARGV[i] end
local olds = redis.call('HMGET', KEYS[2], unpack(keys))
local stored = {}
for i, key in ipairs(keys) do
  local number = tonumber(ARGV[first + 2 * i - 1])
  local text, old, is_newer, was = ARGV[8 + number], olds[i], true, '{}'
  if old then
    local e, c, labels = string.match(old, '^{"v":%[(%d+),(%d+)%],"labels":(.*)}$')
    if e then
      e, c = tonumber(e), tonumber(c)
      is_newer = e < epoch or (e == epoch and c <= commit)
      was = labels
    end
  end
  if is_newer then
    if was ~= text or ARGV[5] == '1' then
      local before, now = sets_of(was), sets_of(text)
      for set in pairs(before) do
        if not now[set] then add(out, set, key) end
      end
      for set in pairs(now) do
        if not before[set] or ARGV[5] == '1' then add(into, set, key) end
      end
    end
    stored[#stored + 1] = key
    stored[#stored + 1] = records[number]
  end
end

-- The records come last: what breaks off before them is done again.
local found = ''
local function note(fact, name)
  if redis.call('HSETNX', KEYS[1], fact, 1) == 1 and redis.call('EXISTS', name) == 1 then found = 'found' end
end
note('records:' .. ARGV[7], KEYS[2])
for set, members in pairs(out) do redis.call('SREM', ARGV[6] .. set, unpack(members)) end
for set, members in pairs(into) do
  note('members:' .. ARGV[7] .. ':' .. set, ARGV[6] .. set)
  redis.call('SADD', ARGV[6] .. set, unpack(members))
end
if #stored > 0 then redis.call('HSET', KEYS[2], unpack(stored)) end
if commit > last then redis.call('HSET', KEYS[1], 'commit', ARGV[4]) end
return {'ok', found}
