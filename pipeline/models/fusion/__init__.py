"""How camera and LiDAR features meet at the points: six forms over true projections."""
