//! CRI v1 in front of Docker Engine.

#![expect(dead_code, reason = "the modules that use the engine land one by one")]

mod engine;
