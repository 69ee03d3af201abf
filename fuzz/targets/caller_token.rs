#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = tollgate_fuzz::caller_token::holds(input);
});
