"""The compiler that fits neural networks into microcontrollers, and proves that they fit."""
