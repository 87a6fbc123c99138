"""Files that data sets of images are published in, read without running anything that they hold."""
