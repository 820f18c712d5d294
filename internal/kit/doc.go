// Package kit writes the folder with which a firmware engineer gets a stock
// client talking to this installation: the certificate to trust, settings and
// readings made from the product's declaration, a sketch for one platform that
// enrols, connects, sends, listens and renews, and a README that says what was
// tested and what was not.
//
// Rendering is pure: facts in, files out. A kit holds no secret and nothing that
// two units could share as a credential: the enrolment code of a unit is given
// to the unit at run time, and each unit makes its own key (CC 1.9). Names,
// units and values of a declaration are free text to whoever wrote it; what they
// become in source code cannot leave the string or comment that it stands in.
package kit
