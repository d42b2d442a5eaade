"""What every part needs: arguments, files, compilation, threads, interrupts."""
