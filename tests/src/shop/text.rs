//! Numbers, decimals, times and words as Maxwell prints them, straight into a byte buffer.

/// Appends text.
pub(super) fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Appends an integer in decimal.
pub(super) fn number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut at = 20;
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends the last `width` digits of `value`, with zeros in front.
pub(super) fn padded(out: &mut Vec<u8>, value: u64, width: u32) {
    for place in (0..width).rev() {
        out.push(b'0' + (value / 10u64.pow(place) % 10) as u8);
    }
}

/// Appends hundredths as a decimal with two places.
pub(super) fn cents(out: &mut Vec<u8>, cents: u64) {
    number(out, cents / 100);
    out.push(b'.');
    padded(out, cents % 100, 2);
}

/// Appends seconds since 1970 as `YYYY-MM-DD HH:MM:SS` (Howard Hinnant's civil-from-days), without quotes.
pub(super) fn datetime(out: &mut Vec<u8>, seconds: u64) {
    let z = seconds / 86_400 + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    padded(out, year, 4);
    out.push(b'-');
    padded(out, month, 2);
    out.push(b'-');
    padded(out, day, 2);
    out.push(b' ');
    padded(out, seconds / 3_600 % 24, 2);
    out.push(b':');
    padded(out, seconds / 60 % 60, 2);
    out.push(b':');
    padded(out, seconds % 60, 2);
}

/// Words of remarks, already as they stand inside a JSON string: unicode, escapes, a surrogate pair.
pub(super) const WORDS: [&str; 16] = [
    "尽快发货",
    "gift wrap",
    "请放门口",
    "no receipt",
    "勿打电话",
    "call first",
    "生日礼物",
    "résumé paper",
    "周末配送",
    "fragile",
    "\\uD83D\\uDE00",
    "leave at desk",
    "\\\\ \\/ \\t",
    "ship \\\"fast\\\"",
    "{\\\"old\\\":{",
    "naïve 😀",
];
/// Cities of addresses.
pub(super) const CITIES: [&str; 8] = [
    "杭州市西湖区",
    "上海市浦东新区",
    "Beijing Chaoyang",
    "深圳市南山区",
    "Chengdu Wuhou",
    "西安市雁塔区",
    "Zürich Kreis 5",
    "广州市天河区",
];
/// Roads of addresses.
pub(super) const ROADS: [&str; 6] =
    ["文三路", "Century Avenue", "人民南路", "Science Park Rd", "长安街", "Harbour View Street"];
