//! What must happen within a bound: one test at a time, so that the tests do not slow each other.

mod mesh;
