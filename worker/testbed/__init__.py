"""What only a test bed has: workers that lie and fail, taps on honest ones, and where colluders meet."""
