//! Values that are written as strings: durations, sizes, addresses, public nkeys.

use std::time::Duration;

/// A duration in Go's syntax, such as `1h30m`, `-2s` or `1.5ms`, in nanoseconds.
pub(crate) fn nanos(text: &str) -> Result<i64, String> {
    let wrong = || format!("'{text}' is not a duration such as \"2s\" or \"1h30m\"");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| c != '.' && !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(number);
        let unit_end = tail.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(wrong()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(wrong());
        }
        let digits = |digits: &str| if digits.is_empty() { Ok(0) } else { digits.parse::<i64>() };
        // Digits beyond the eighteenth are finer than a nanosecond of an hour.
        let fraction = fraction.get(..fraction.len().min(18)).unwrap_or_default();
        let scale = 10i128.pow(fraction.len() as u32);
        let whole = i128::from(digits(whole).map_err(|_| wrong())?);
        let fraction = i128::from(digits(fraction).map_err(|_| wrong())?);
        total += whole * unit + fraction * unit / scale;
        if total > i128::from(i64::MAX) {
            return Err(format!("the duration '{text}' is out of range"));
        }
        rest = tail;
    }
    let total = total as i64;
    Ok(if negative { -total } else { total })
}

/// A duration that is not negative.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let nanos = nanos(text)?;
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| format!("the duration '{text}' is negative"))
}

/// Bytes as a string: digits and one of `K`, `M`, `G`, `T`, powers of 1024. No text at all is 0.
pub(crate) fn size(text: &str) -> Result<i64, String> {
    let Some(suffix) = text.chars().last() else { return Ok(0) };
    let power = "KMGT".find(suffix).ok_or("a size that is a string ends in K, M, G or T")?;
    let digits = text.get(..text.len() - suffix.len_utf8()).unwrap_or_default();
    let number = digits.parse::<i64>().ok().and_then(|number| number.checked_mul(1024 << (10 * power)));
    number.ok_or_else(|| format!("'{text}' is not a size such as \"10G\""))
}

/// `host:port`; the host may be empty, one with colons stands in brackets. The port is 0 for the default, -1 for
/// any free one.
pub(crate) fn host_port(text: &str) -> Result<(String, i64), String> {
    let wrong = || format!("'{text}' is not an address such as \"localhost:4222\"");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => inner,
        None if host.contains([':', '[', ']']) => return Err(wrong()),
        None => host,
    };
    let port = port.parse::<i64>().map_err(|_| format!("'{port}' is not a port"))?;
    if (-1..=i64::from(u16::MAX)).contains(&port) {
        Ok((host.to_owned(), port))
    } else {
        Err(format!("there is no port {port}"))
    }
}

/// True if `text` is a public nkey whose type is `letter`, or any type that starts with a letter if that is `*`.
///
/// An nkey is base32 over one byte for the type, 32 bytes of key and their CRC-16 (XMODEM), low byte first.
pub(crate) fn is_public_nkey(text: &str, letter: char) -> bool {
    let typed = match text.chars().next() {
        Some(first) if letter == '*' => "ACNOUX".contains(first),
        first => first == Some(letter),
    };
    // The type's letter fixes five bits of the first byte; its other three are zero.
    typed && nkey(text).is_some_and(|key| key.len() == 33 && key.first().is_some_and(|first| first & 7 == 0))
}

/// True if `text` is the private nkey of a user: `SU…`, two bytes for the types before 32 bytes of seed.
pub(crate) fn is_user_seed(text: &str) -> bool {
    text.starts_with("SU") && nkey(text).is_some_and(|key| key.len() == 34)
}

/// The bytes of an nkey without their sum, if that is right.
fn nkey(text: &str) -> Option<Vec<u8>> {
    if text.len() > 64 {
        return None;
    }
    let (mut bits, mut held, mut bytes) = (0u32, 0, Vec::with_capacity(36));
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'2'..=b'7' => byte - b'2' + 26,
            _ => return None,
        };
        bits = bits << 5 | u32::from(value);
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    let (key, sum) = bytes.split_last_chunk::<2>()?;
    let crc = key.iter().fold(0u16, |crc, byte| {
        (0..8)
            .fold(crc ^ u16::from(*byte) << 8, |crc, _| crc << 1 ^ if crc & 0x8000 != 0 { 0x1021 } else { 0 })
    });
    (u16::from_le_bytes(*sum) == crc).then(|| key.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_in_go() {
        for (text, want) in [
            ("0", 0),
            ("5s", 5_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("-1.5ms", -1_500_000),
            ("+.5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("1us2\u{b5}s3\u{3bc}s4ns", 6_004),
            ("0.000000000000000000000001h", 0),
        ] {
            assert_eq!(nanos(text), Ok(want), "{text}");
        }
        for text in
            ["", "-", "5", "s", ".s", "1..5s", "5 s", "1d", "3000000h", "99999999999999999999s", "1m!"]
        {
            assert!(nanos(text).is_err(), "{text}");
        }
        assert!(duration("-1s").is_err());
    }

    #[test]
    fn sizes() {
        assert_eq!(size("10G"), Ok(10 << 30));
        assert_eq!(size("1K"), Ok(1024));
        assert_eq!(size("3T"), Ok(3 << 40));
        assert_eq!(size(""), Ok(0));
        for text in ["10", "10g", "G", "1.5G", "9999999999999T", "10é"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses() {
        assert_eq!(host_port("localhost:4222"), Ok(("localhost".into(), 4222)));
        assert_eq!(host_port(":-1"), Ok((String::new(), -1)));
        assert_eq!(host_port("[::1]:80"), Ok(("::1".into(), 80)));
        for text in ["4222", "a:b", "::1:80", "a:70000", "a:-2", "[::1:80"] {
            assert!(host_port(text).is_err(), "{text}");
        }
    }

    #[test]
    fn public_nkeys() {
        let user = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
        assert!(is_public_nkey(user, 'U') && is_public_nkey(user, '*'));
        assert!(!is_public_nkey(user, 'A'));
        assert!(!is_public_nkey(&user.replace("CNF4", "CNF5"), 'U'));
        assert!(!is_public_nkey(&user.to_lowercase(), 'U'));
        assert!(!is_public_nkey("", 'U') && !is_public_nkey("U", 'U'));
    }
}
