//! Thermometers that are a voltage, as many chips have one inside.

/// Such a thermometer behind a converter of 12 bits whose full scale is 3.3 V: what the chip's data sheet says of it.
#[derive(Clone, Copy, Debug)]
pub struct Thermometer {
    /// Where it is known: hundredths of a degree.
    pub known_celsius_x100: i32,
    /// What it gives there.
    pub known_microvolts: i32,
    /// What it gives more for each degree more; less than nothing if it gives less.
    pub microvolts_per_degree: i32,
}

impl Thermometer {
    /// What the converter has read, in hundredths of a degree. Not 0 for the slope.
    pub const fn celsius_x100(self, raw: u16) -> i16 {
        let raw = if raw < 4_096 { raw as i32 } else { 4_095 };
        // 3,300,000 / 4,096, in numbers that fit.
        let microvolts = raw * 103_125 / 128;
        let celsius =
            self.known_celsius_x100 + (microvolts - self.known_microvolts) * 100 / self.microvolts_per_degree;
        if celsius > i16::MAX as i32 {
            i16::MAX
        } else if celsius < i16::MIN as i32 {
            i16::MIN
        } else {
            celsius as i16
        }
    }
}

// What boards do with it is tested as it is compiled: a number that doesn't fit is an error here.
const _: () = {
    let rising =
        Thermometer { known_celsius_x100: 2_500, known_microvolts: 760_000, microvolts_per_degree: 2_500 };
    let falling =
        Thermometer { known_celsius_x100: 2_700, known_microvolts: 706_000, microvolts_per_degree: -1_721 };
    assert!(rising.celsius_x100(943) == 2_490 && rising.celsius_x100(974) == 3_488);
    assert!(falling.celsius_x100(876) == 2_713 && falling.celsius_x100(855) == 3_696);
    let mut raw = 1;
    while raw < 5_000 {
        assert!(rising.celsius_x100(raw) >= rising.celsius_x100(raw - 1));
        assert!(falling.celsius_x100(raw) <= falling.celsius_x100(raw - 1));
        raw += 1;
    }
};
