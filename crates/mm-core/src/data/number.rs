//! Numbers from text, exactly.

/// What a piece of text is as a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Parsed {
    Finite(f64),
    /// An infinity by name, or digits beyond the range of `f64`.
    Infinite,
    NotANumber,
}

/// Powers of ten that `f64` holds exactly.
const EXACT: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Reads decimal or scientific notation, blanks around it allowed, to the nearest `f64`.
///
/// Up to 15 or so digits, which is nearly every cell of a table, are read by one exact
/// multiplication or division (Clinger 1990, "How to read floating point numbers accurately",
/// *PLDI*); the rest go the way of the standard library, with the same result bit for bit.
pub(super) fn parse(text: &str) -> Parsed {
    if let Some(x) = plain(text) {
        return Parsed::Finite(x);
    }
    let text = text.trim_ascii();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) {
        return match text.parse::<f64>() {
            Ok(x) if x.is_finite() => Parsed::Finite(x),
            Ok(_) => Parsed::Infinite,
            Err(_) => Parsed::NotANumber,
        };
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_infinity = |name: &&&str| unsigned.eq_ignore_ascii_case(name);
    match ["inf", "infinity"].iter().find(is_infinity) {
        Some(_) => Parsed::Infinite,
        None => Parsed::NotANumber,
    }
}

/// `-?d*.?d*` with a mantissa that `f64` holds exactly, or `None`: the fast half of [`parse`].
#[inline]
pub(super) fn plain(text: &str) -> Option<f64> {
    let (digits, negative) = match text.as_bytes() {
        [b'-', digits @ ..] => (digits, true),
        digits => (digits, false),
    };
    let x = if digits.len() <= 8 { by_word(digits)? } else { by_digit(digits)? };
    Some(if negative { -x } else { x })
}

/// Up to 8 bytes as a number, the first byte lowest; of more, nothing sensible.
#[inline]
pub(super) fn word(text: &[u8]) -> u64 {
    let part = |bytes: &[u8; 4]| u64::from(u32::from_le_bytes(*bytes));
    match (text, text.first_chunk(), text.last_chunk()) {
        // The two may overlap, and agree there.
        (_, Some(head), Some(tail)) => part(head) | part(tail) << (8 * (text.len() - 4) % 64),
        ([a, b, c], ..) => part(&[*a, *b, *c, 0]),
        ([a, b], ..) => part(&[*a, *b, 0, 0]),
        ([a], ..) => u64::from(*a),
        _ => 0,
    }
}

/// `d*.?d*` of at most 8 bytes, all at once: the bytes lie in one word, first byte lowest, zeros of
/// ASCII fill it up from below, and pairs, then fours, then eights of digits are joined by a
/// multiplication each (Lemire 2018, "Quickly parsing eight digits").
#[inline]
fn by_word(text: &[u8]) -> Option<f64> {
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    let n = text.len();
    if n == 0 {
        return None;
    }
    let word = word(text);
    // The point, if there is one; the lowest bit found is exact.
    let x = word ^ 0x2E2E_2E2E_2E2E_2E2E;
    let point = x.wrapping_sub(0x0101_0101_0101_0101) & !x & 0x8080_8080_8080_8080;
    let (word, n, decimals) = if point == 0 {
        (word, n, 0)
    } else {
        let at = point.trailing_zeros() / 8;
        let below = (1 << (8 * at)) - 1; // What stands before the point.
        (word & below | (word >> 8) & !below, n - 1, n - 1 - at as usize)
    };
    if n == 0 {
        return None;
    }
    let fill = 64 - 8 * n as u32;
    let word = (word << fill) | (ZEROS & !(u64::MAX << fill));
    let digits = word ^ ZEROS; // Each byte from 0 to 9, if it was a digit.
    if (digits | digits.wrapping_add(0x7676_7676_7676_7676)) & 0x8080_8080_8080_8080 != 0 {
        return None;
    }
    let pairs = digits.wrapping_mul(10 << 8 | 1) >> 8 & 0x00FF_00FF_00FF_00FF;
    let fours = pairs.wrapping_mul(100 << 16 | 1) >> 16 & 0x0000_FFFF_0000_FFFF;
    let eight = fours.wrapping_mul(10_000 << 32 | 1) >> 32;
    Some(eight as f64 / EXACT[decimals])
}

/// `d*.?d*` of any length, digit by digit.
fn by_digit(text: &[u8]) -> Option<f64> {
    // 19 digits cannot overflow; a byte is for the point.
    if 20 < text.len() {
        return None;
    }
    let (mut mantissa, mut point, mut count) = (0_u64, None, 0);
    for &b in text {
        let digit = b.wrapping_sub(b'0');
        if digit < 10 {
            if count == 19 {
                return None;
            }
            mantissa = mantissa * 10 + u64::from(digit);
            count += 1;
        } else if b == b'.' && point.is_none() {
            point = Some(count);
        } else {
            return None;
        }
    }
    if count == 0 || 1 << 53 < mantissa {
        return None;
    }
    Some(mantissa as f64 / EXACT[point.map_or(0, |at| count - at)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn notations_are_told_apart() {
        for (text, x) in [
            ("0", 0.0),
            ("-0", -0.0),
            ("007", 7.0),
            ("+5", 5.0),
            (".5", 0.5),
            ("5.", 5.0),
            (" 12\t", 12.0),
            ("1e3", 1000.0),
            ("-2.5E-1", -0.25),
            ("12.658579999999999", 12.658_579_999_999_999),
            ("9007199254740993", 9_007_199_254_740_992.0),
            ("18446744073709551616", 18_446_744_073_709_551_616.0),
        ] {
            let Parsed::Finite(got) = parse(text) else { panic!("`{text}` is a number") };
            assert_eq!(got.to_bits(), f64::to_bits(x), "{text}");
        }
        for text in ["inf", "-Infinity", "+INF", "1e999", "-1e999"] {
            assert_eq!(parse(text), Parsed::Infinite, "{text}");
        }
        for text in
            ["", " ", ".", "-", "+-1", "1 2", "1,5", "0x10", "NaN", "nan", "1_000", "1e", "e1"]
        {
            assert_eq!(parse(text), Parsed::NotANumber, "{text}");
        }
    }

    proptest! {
        /// Whatever the characters, short text is the number that the standard library sees.
        #[test]
        fn short_texts_are_read_as_the_standard_library_reads_them(text in "[-+.0-9eE/:x ]{0,9}") {
            let got = parse(&text);
            match text.trim_ascii().parse::<f64>() {
                Err(_) => prop_assert_eq!(got, Parsed::NotANumber),
                Ok(x) if x.is_infinite() => prop_assert_eq!(got, Parsed::Infinite),
                Ok(x) => {
                    let Parsed::Finite(got) = got else { panic!("`{text}` is {x}") };
                    prop_assert_eq!(got.to_bits(), x.to_bits());
                }
            }
        }

        /// The fast path agrees with the standard library to the last bit.
        #[test]
        fn numbers_are_read_to_the_nearest(text in "-?[0-9]{0,20}(\\.[0-9]{0,20})?") {
            match text.parse::<f64>() {
                Err(_) => prop_assert_eq!(parse(&text), Parsed::NotANumber),
                Ok(x) => {
                    let Parsed::Finite(got) = parse(&text) else { panic!("`{text}`") };
                    prop_assert_eq!(got.to_bits(), x.to_bits());
                }
            }
        }

        /// What is written in the shortest form comes back.
        #[test]
        fn shortest_forms_round_trip(x in prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL) {
            prop_assert_eq!(parse(&format!("{x:?}")), Parsed::Finite(x));
            prop_assert_eq!(parse(&format!("{x}")), Parsed::Finite(x));
        }
    }
}
