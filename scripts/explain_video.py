"""Overlay, contact sheet and map of one video: python scripts/explain_video.py video=clip.mp4 model=i3d"""

from aosa.start import main

if __name__ == "__main__":
    main("explain_video")
