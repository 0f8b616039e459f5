//! The data path is the binary beside this file. This library is empty: it lets the controller name
//! the package as a build dependency, so that cargo rebuilds the program when something below it changes.

#![no_std]
