"""The code lists of the made-up council: each fact's word, and how each of the two systems of record writes it.

One line a code: `fact | meadow | harbour | meaning`. The fact is our own word and appears in no extract; `meadow`
writes short codes, `harbour` writes English labels; the meaning, where it differs from harbour's label, is the value of
Client Level Data Release 2 (DHSC) or of the standard list named in the heading. Longer than a module is: it is data.
"""

from __future__ import annotations

from dataclasses import dataclass

UNLISTED = "?"
"""The fact that no list has: planted on purpose, and written as a code no concept map knows."""

_UNLISTED_CODE = {"meadow": "ZZ9", "harbour": "Legacy value 99"}


@dataclass(frozen=True, slots=True)
class Code:
    """One value of a list: our word for it, the two systems' spellings, and what it means."""

    fact: str
    meadow: str
    harbour: str
    meaning: str


_TEXT = """
= organisation_kind
council             | CC | Council
nhs-trust           | TR | NHS trust
mental-health-trust | MT | NHS mental health trust
icb                 | IB | Integrated care board
gp-practice         | GP | GP practice
homecare            | HC | Homecare provider
residential         | RH | Residential care home provider
nursing             | NH | Nursing home provider
reablement          | RB | Reablement provider
technology          | CT | Care technology supplier
equipment           | EQ | Equipment supplier
voluntary           | VO | Voluntary organisation
guardian            | PG | Court or public guardian

= team_kind
access               | ACC | Adult social care connect            | Contact and access team
locality             | LOC | Locality team                        | Older adults' locality team
learning-disability  | LD  | Learning disability team
sensory-physical     | PSI | Physical and sensory impairment team
mental-health        | MH  | Mental health team
occupational-therapy | OT  | Occupational therapy team
hospital             | HOS | Hospital discharge team
reablement           | REA | Reablement team
carers               | CAR | Carers team
safeguarding         | SAF | Safeguarding adults team
technology           | TEC | Care technology team

= location_kind
residential | RES | Residential care home
nursing     | NUR | Nursing home
hospital    | HSP | Hospital site
day-centre  | DAY | Day centre
extra-care  | EXC | Extra care scheme
office      | OFF | Office

= profession
social-worker          | SW  | Social worker
occupational-therapist | OT  | Occupational therapist
assessor               | SCA | Social care assessor       | Assessor without professional registration
reablement-worker      | RW  | Reablement worker
technician             | TN  | Care technology technician

= post
practitioner   | PRA | Practitioner
senior         | SEN | Senior practitioner
manager        | MGR | Team manager
amhp           | AMH | Approved mental health professional
best-interests | BIA | Best interests assessor

= client_type
service-user | SU | Person with care and support needs | Service user
carer        | UC | Carer                              | Unpaid carer
technology   | TO | Care technology only               | Service user (care technology and nothing else)

= nhs_status: UK Core NHS number verification status, England
01 | 1 | Verified       | Number present and verified
02 | 2 | Not traced     | Number present but not traced
03 | 3 | Trace required | Trace required

= gender
male    | M | Male
female  | F | Female
other   | X | Other
unknown | U | Not known | Unknown

= birth_sex
male          | M | Male
female        | F | Female
indeterminate | I | Indeterminate
unknown       | U | Not known     | Unknown

= ethnicity
english         | A1 | White British             | White: English, Welsh, Scottish, Northern Irish or British
irish           | A2 | White Irish               | White: Irish
traveller       | A3 | Gypsy or Irish Traveller  | White: Gypsy or Irish Traveller
roma            | A4 | Roma                      | White: Roma
white-other     | A9 | Other White background    | White: Any other White background
white-caribbean | B1 | White and Black Caribbean | Mixed or multiple ethnic groups: White and Black Caribbean
white-african   | B2 | White and Black African   | Mixed or multiple ethnic groups: White and Black African
white-asian     | B3 | White and Asian           | Mixed or multiple ethnic groups: White and Asian
mixed-other     | B9 | Other mixed background    | Mixed or multiple ethnic groups: Any other Mixed or multiple ethnic \
background
indian          | C1 | Indian                    | Asian or Asian British: Indian
pakistani       | C2 | Pakistani                 | Asian or Asian British: Pakistani
bangladeshi     | C3 | Bangladeshi               | Asian or Asian British: Bangladeshi
chinese         | C4 | Chinese                   | Asian or Asian British: Chinese
asian-other     | C9 | Other Asian background    | Asian or Asian British: Any other Asian background
caribbean       | D1 | Caribbean                 | Black, Black British, Caribbean or African: Caribbean
african         | D2 | African                   | Black, Black British, Caribbean or African: African
black-other     | D9 | Other Black background    | Black, Black British, Caribbean or African: Any other Black, Black \
British or Caribbean background
arab            | E1 | Arab                      | Other ethnic group: Arab
other           | E9 | Other ethnic group        | Other ethnic group: Any other ethnic group
refused         | X1 | Refused                   | No data: Refused
unknown         | X9 | Not known                 | No data: Undeclared or not known

= language: BCP 47 tag as meaning
english    | ENG | English               | en
polish     | POL | Polish                | pl
romanian   | RON | Romanian              | ro
lithuanian | LIT | Lithuanian            | lt
bengali    | BEN | Bengali               | bn
punjabi    | PAN | Punjabi               | pa
urdu       | URD | Urdu                  | ur
gujarati   | GUJ | Gujarati              | gu
turkish    | TUR | Turkish               | tr
portuguese | POR | Portuguese            | pt
italian    | ITA | Italian               | it
arabic     | ARA | Arabic                | ar
chinese    | ZHO | Chinese               | zh
bsl        | BSL | British Sign Language | bfi

= restricted: how freely the record may be shown
none        | N | Not restricted
whereabouts | W | Whereabouts restricted | Address and phones must not be shown
sealed      | S | Sealed                 | Nobody sees it but who is cleared for sealed records

= marital_status
single            | S | Single
married           | M | Married
civil-partner     | C | Civil partner
divorced          | D | Divorced
dissolved         | X | Civil partnership dissolved
widowed           | W | Widowed
surviving-partner | V | Surviving civil partner
separated         | P | Separated
unknown           | U | Not known

= religion
none       | NO | No religion
christian  | CH | Christian
muslim     | MU | Muslim
hindu      | HI | Hindu
sikh       | SI | Sikh
jewish     | JE | Jewish
buddhist   | BU | Buddhist
other      | OT | Other religion
not-stated | NS | Not stated

= contact_preference
phone  | PH | Telephone
letter | LE | Letter
email  | EM | Email
text   | TX | Text message
visit  | VI | Face to face

= address_kind
home     | HM | Home
previous | PV | Previous home

= phone_kind
home   | H | Home
mobile | M | Mobile

= relationship_role
carer            | UC | Unpaid carer
next-of-kin      | NK | Next of kin
emergency        | EC | Emergency contact
attorney-welfare | LW | Attorney (health and welfare)   | Lasting power of attorney, health and welfare
attorney-finance | LF | Attorney (property and finance) | Lasting power of attorney, property and financial affairs
deputy           | DP | Deputy (health and welfare)     | Deputy of the Court of Protection, health and welfare
advocate         | AD | Advocate
key-holder       | KH | Key holder

= relation
husband        | HUS | Husband
wife           | WIF | Wife
partner        | PTN | Partner
daughter       | DAU | Daughter
son            | SON | Son
mother         | MTH | Mother
father         | FTH | Father
sister         | SIS | Sister
brother        | BRO | Brother
grandchild     | GRC | Grandchild
other-relative | REL | Other relative
friend         | FRI | Friend
neighbour      | NEI | Neighbour
professional   | PRF | Professional

= caring_hours: hours of care a week (bands of our own: the CLD list is not public)
under-20 | A | Under 20 hours
20-49    | B | 20 to 49 hours
50-99    | C | 50 to 99 hours
100-over | D | 100 hours or more
unknown  | U | Not known

= register: what a person is registered as, or known to live with
blind               | SSI | Severely sight impaired | Blind/severely sight impaired
partial-sight       | SI  | Sight impaired          | Partial sight/sight impaired
deaf-with-speech    | DWS | Deaf with speech
deaf-without-speech | DNS | Deaf without speech
hard-of-hearing     | HOH | Hard of hearing
autism              | AUT | Autism                  | Autism spectrum disorder
dementia            | DEM | Dementia
learning-disability | LDR | Learning disability

= route: Client Level Data, Request_Route_of_Access
transition        | TRA | Transition from children      | Planned Entry (Transition)
discharge         | DIS | Hospital discharge            | Discharge from Hospital
diversion         | DIV | Hospital avoidance            | Diversion from Hospital Services
depleted          | DEP | Self-funder, depleted funds   | Self-funder with depleted funds
depleted-deferred | DED | Self-funder, deferred payment | Self-funder with depleted funds (of which previously \
provided with 12-week disregard or deferred payment)
community         | COM | Community                     | Community/Other route
prison            | PRI | Prison

= contact_reason
needs-assessment   | NA | Request for assessment
hospital-discharge | HD | Hospital discharge
carer-support      | CS | Support for an unpaid carer
change             | CH | Change of circumstances
safeguarding       | SG | Safeguarding concern
equipment          | EQ | Equipment or adaptation
technology         | CT | Care technology
information        | IA | Information and advice
sensory            | SI | Sensory impairment
mental-health      | MH | Mental health

= requester
self             | SEL | Self
family           | FAM | Family member
carer            | CAR | Unpaid carer
gp               | GPR | GP
hospital         | HOS | Hospital
community-health | CHS | Community health
police           | POL | Police
housing          | HOU | Housing
care-provider    | PRO | Care provider
voluntary        | VOL | Voluntary organisation
internal         | INT | Council colleague

= priority
routine  | R | Routine
urgent   | U | Urgent
same-day | S | Same day

= contact_status
open      | O | Open
closed    | C | Closed
withdrawn | W | Withdrawn

= outcome: Client Level Data, Event_Outcome
reablement    | 01 | To reablement              | Progress to reablement/ST-Max
assessment    | 02 | To assessment or review    | Progress to assessment, review or reassessment
services      | 04 | To support planning        | Progress to support planning or services
continue      | 05 | Support continues          | Continuation of support or services
hospital      | 06 | Admitted to hospital
moved         | 07 | Moved to another authority | NFA: Responsibility moved to another local authority
nhs           | 08 | NHS funded or referred     | NFA: Referral to NHS services or NHS funded social care
self-funded   | 09 | Self-funder                | NFA: Self-funded client or under 12wk disregard
advice        | 10 | Information and advice     | NFA: Information and advice or signposting
other-service | 11 | Other council service      | NFA: Referral to other service within the local authority
declined      | 12 | Declined                   | NFA: Support declined
died          | 13 | Deceased                   | NFA: Deceased
ended-planned | 14 | Ended as planned           | NFA: Support ended as planned
ended-other   | 15 | Ended, other reason        | NFA: Support ended for other reason
none-offered  | 16 | No services offered        | NFA: No services offered for other reason
other         | 17 | Other                      | NFA: Other

= assessment_kind
care-act             | CA | Care Act assessment
carer                | CR | Carer's assessment
occupational-therapy | OT | Occupational therapy assessment
self                 | SA | Supported self-assessment
discharge            | HD | Hospital discharge assessment
trusted              | TA | Trusted assessor assessment
mental-health        | MH | Mental health assessment

= term: Client Level Data, Assessment_Type
short | ST | Short term | Short term assessment
long  | LT | Long term  | Long term assessment

= method
person | P | Person only      | Service user only
carer  | C | Carer only
both   | B | Person and carer | Service user and carer

= work_status: of assessments and of reviews
planned     | PL | Planned
in-progress | IP | In progress
completed   | CO | Completed
cancelled   | CX | Cancelled

= eligibility
eligible     | E | Eligible needs      | Eligible
not-eligible | N | Needs not eligible  | Non-eligible
no-needs     | Z | No needs identified

= answer: to an assessment's question
yes          | Y  | Yes
no           | N  | No
manages      | 0  | Manages alone   | Achieves the outcome without help
prompting    | 1  | Needs prompting | Achieves the outcome with prompting
some-help    | 2  | Needs some help | Achieves the outcome with some help
full-help    | 3  | Needs full help | Cannot achieve the outcome without full help
fund-self    | FC | Self-funded     | Fully client funded
fund-joint   | JF | Jointly funded  | Joint client and social care funded
fund-council | FS | Council funded  | Fully social care funded

= support_reason: Client Level Data, Primary_Support_Reason
access              | PAM | Access and mobility       | Physical support: Access and mobility only
personal-care       | PPC | Personal care             | Physical support: Personal care support
visual              | SVI | Visual impairment         | Sensory support: Support for visual impairment
hearing             | SHI | Hearing impairment        | Sensory support: Support for hearing impairment
dual                | SDI | Dual sensory impairment   | Sensory support: Support for dual impairment
memory              | MEM | Memory and cognition      | Support with memory and cognition
learning-disability | LDS | Learning disability       | Learning disability support
mental-health       | MHS | Mental health             | Mental health support
substance           | SSM | Substance misuse          | Social support: Substance misuse support
asylum              | SAS | Asylum seeker             | Social support: Asylum seeker support
isolation           | SIS | Social isolation or other | Social support: Support for social isolation or other reason
carer               | SUC | Support to unpaid carer   | Social support: Support to unpaid carer

= plan_kind
care-support | CSP | Care and support plan
carer        | CRP | Carer's support plan

= plan_status
draft  | D | Draft
active | A | Active
ended  | E | Ended

= domain: the ten outcomes of the Care Act 2014 eligibility regulations
nutrition      | NUT | Nutrition                       | Managing and maintaining nutrition
hygiene        | HYG | Personal hygiene                | Maintaining personal hygiene
toilet         | TOI | Toilet needs                    | Managing toilet needs
clothing       | CLO | Clothing                        | Being appropriately clothed
home-safety    | HSF | Using the home safely           | Being able to make use of the home safely
habitable-home | HAB | Habitable home                  | Maintaining a habitable home environment
relationships  | REL | Relationships                   | Developing and maintaining family or other personal \
relationships
work           | WTE | Work, training and volunteering | Accessing and engaging in work, training, education or \
volunteering
community      | COM | Community                       | Making use of necessary facilities or services in the local \
community
caring         | CAR | Caring for others               | Carrying out any caring responsibilities for others

= goal_status
in-progress  | IP | In progress
achieved     | AC | Achieved
partly       | PA | Partly achieved
not-achieved | NA | Not achieved
cancelled    | CX | Cancelled

= team_role
lead      | LW | Lead worker
therapist | OT | Occupational therapist
support   | SW | Support worker

= service_type: Client Level Data
nursing         | LNC | Long term nursing                   | Long term support: Nursing care
residential     | LRC | Long term residential               | Long term support: Residential care
community       | LCO | Long term community                 | Long term support: Community
prison          | LPR | Long term prison                    | Long term support: Prison
st-max          | SMX | Short term to maximise independence | Short term support: ST-Max
low-level       | SLL | Ongoing low level                   | Short term support: Ongoing low level
short-other     | SOT | Other short term                    | Short term support: Other short term
carer-direct    | UCD | Carer support, direct               | Unpaid carer support: Direct to unpaid carer
carer-cared-for | UCI | Carer support, via cared-for        | Unpaid carer support: Support involving the person \
cared-for

= service_component: Client Level Data
reablement         | REA | Reablement
short-nursing      | SNC | Short stay nursing         | Short term nursing care
short-residential  | SRC | Short stay residential     | Short term residential care
long-nursing       | LNC | Nursing care               | Long term nursing care
long-residential   | LRC | Residential care           | Long term residential care
home-support       | HSD | Homecare                   | Home support or domiciliary care
day-support        | DAY | Day care                   | Day support
meals              | MEA | Meals
transport          | TRA | Transport
equipment          | EQU | Equipment
direct-payment     | DIR | Direct payment
shared-lives       | SHL | Shared Lives
supported-living   | CSL | Supported living           | Community supported living
extra-care         | EXC | Extra care                 | Extra care housing
social-worker      | PSW | Social worker support      | Professional support: Social worker
professional-other | POT | Other professional support | Professional support: Other
learning           | LEE | Learning and employment    | Learning, education or employment support
end-of-life        | EOL | End of life care
emergency          | EME | Emergency support
short-other        | STO | Other short term support
long-other         | LTO | Other long term support
carer-respite      | CRE | Carer respite              | Unpaid carer respite
carer-sitting      | CSI | Sitting service            | Unpaid carer sitting service
carer-universal    | CUN | Carer universal services   | Unpaid carer universal services
carer-other        | COT | Other carer support        | Other unpaid carer support

= delivery: Client Level Data, Delivery_Mechanism
direct-payment | DP  | Direct payment
managed-budget | MPB | Managed personal budget | CASSR managed personal budget
commissioned   | COM | Council commissioned    | CASSR commissioned support

= funding: Client Level Data, Client_Funding_Status
self    | FC | Person pays in full  | Fully client funded
joint   | JF | Person contributes   | Joint client and social care funded
council | FS | Council pays in full | Fully social care funded
unknown | UK | Not known            | Unknown

= line_status: of package lines and of reablement episodes
planned   | P | Planned
active    | A | Active
suspended | S | Suspended
ended     | E | Ended

= end_reason
planned   | EP | Ended as planned
died      | DE | Person died
moved     | MO | Moved out of area
care-home | CH | Moved to a care home
changed   | CP | Package changed
declined  | PD | Person declined
failed    | PF | Provider failure

= day
mon | MON | Monday
tue | TUE | Tuesday
wed | WED | Wednesday
thu | THU | Thursday
fri | FRI | Friday
sat | SAT | Saturday
sun | SUN | Sunday

= reablement_outcome
self-caring | SC | Self-caring      | Needs no further support
reduced     | RS | Reduced support  | Long term support, less than before
same        | SS | Same support     | Long term support, same level or more
residential | RC | Care home
hospital    | HO | Back to hospital
died        | DE | Died

= review_reason: Client Level Data, Review_Reason
planned       | PL | Planned
hospital      | UH | Hospital episode          | Unplanned: Hospital (planned and unplanned episodes)
carer         | UC | Carer related             | Unplanned: Carer related
safeguarding  | US | Safeguarding concern      | Unplanned: Safeguarding concern
other         | UO | Other unplanned           | Unplanned: Other reason
failed        | UF | Provider failure          | Unplanned: Provider failure
commissioning | UM | Commissioning change      | Unplanned: Change in commissioning arrangements
short-term    | ST | Short term support review | Review of short term support

= achieved: whether the plan's outcomes were met
fully  | F | Fully
partly | P | Partly
not    | N | Not achieved

= alert_category
safeguarding   | SG | Safeguarding
risk-to-staff  | RS | Risk to staff
risk-to-others | RO | Risk to others

= alert_code
enquiry         | S42 | Safeguarding enquiry        | Adult safeguarding enquiry (Care Act section 42)
neglect         | NEG | Neglect
self-neglect    | SNG | Self-neglect
financial-abuse | FIN | Financial abuse
physical-abuse  | PHY | Physical abuse
domestic-abuse  | DOM | Domestic abuse
no-lone-visit   | NLV | No lone visits
dog             | DOG | Dog at the address
aggression      | AGG | Known to be aggressive
infection       | INF | Infection risk
fire            | FIR | Fire risk (smoking, oxygen)

= alert_status
active | A | Active
closed | C | Closed

= equipment_kind
commode            | COM | Commode
walking-frame      | WFR | Walking frame
bath-board         | BBD | Bath board
raised-toilet-seat | RTS | Raised toilet seat
grab-rail          | GRB | Grab rail
hoist              | HOI | Mobile hoist
profiling-bed      | BED | Profiling bed
mattress           | MAT | Pressure relieving mattress
wheelchair         | WHC | Wheelchair
ramp               | RMP | Ramp
stairlift          | STL | Stairlift
key-safe           | KSF | Key safe

= equipment_status
requested | R | Requested
delivered | D | Delivered
returned  | T | Returned
refused   | F | Refused

= technology_kind
alarm-unit           | ALM | Alarm base unit      | Community alarm base unit
pendant              | PEN | Pendant alarm
falls-detector       | FAL | Falls detector
bed-sensor           | BES | Bed sensor
door-sensor          | DOS | Door sensor
medication-dispenser | MED | Medication dispenser
gps                  | GPS | GPS locator
smoke-detector       | SMO | Smoke detector
video-phone          | VCP | Video care phone

= technology_status: of the referral
referred  | R | Referred
installed | I | Installed
removed   | X | Removed
declined  | D | Declined

= device_status
in-use  | U | In use
removed | X | Removed

= removal_reason
died       | DE | Person died
care-home  | CH | Moved to a care home
not-needed | NN | No longer needed
faulty     | FA | Faulty

= accommodation: Client Level Data, Accommodation_Status (all but the rarest)
owner             | OO | Owner occupier                  | Owner occupier or shared ownership scheme
council-tenant    | TL | Social housing tenant           | Tenant: Local authority or other social housing provider
private-tenant    | TP | Private tenant                  | Tenant: Private landlord
with-family       | FA | Settled with family or friends  | Settled mainstream housing with family or friends
supported         | SU | Supported accommodation         | Supported accommodation, supported lodgings or supported \
group home
shared-lives      | SL | Shared Lives scheme
sheltered         | SH | Sheltered or extra care housing | Sheltered housing, extra care housing or other sheltered \
housing
mobile            | MH | Mobile home (Traveller)         | Mobile accommodation for Gypsy, Roma and Traveller \
communities
rough             | RS | Rough sleeping                  | Rough sleeper or squatting
hostel            | NS | Night shelter or hostel         | Night shelter, emergency hostel or direct access hostel
refuge            | RF | Refuge
temporary-council | TC | Temporary, placed by council    | Placed in temporary accommodation by the council (inc. \
homelessness resettlement)
guest             | ST | Short term guest                | Staying with family or friends as a short term guest
hospital          | HO | Hospital                        | Acute hospital or long term healthcare residential facility
residential       | RC | Residential care home           | Registered care home
nursing           | NC | Nursing home                    | Registered nursing home
temporary-other   | TO | Other temporary                 | Other temporary accommodation
unknown           | UK | Not known                       | Unknown

= employment: Client Level Data, Employment_Status
paid-under-16 | P1 | Paid, under 16 hours        | Paid: Less than 16 hours a week
paid-16-over  | P2 | Paid, 16 hours or more      | Paid: 16 or more hours a week
paid-unknown  | P9 | Paid, hours not known       | Paid: Hours per week unknown
seeking       | N1 | Seeking work                | Not in paid employment: Seeking work
not-seeking   | N2 | Not seeking work or retired | Not in paid employment: Not actively seeking work or retired
voluntary     | N3 | Voluntary work              | Not in paid employment: Voluntary work only
unknown       | UK | Not known                   | Unknown

= allergy_substance: SNOMED CT
none-known  | NKA | No known allergies
penicillin  | PEN | Penicillin
sulfonamide | SUL | Sulfonamides
latex       | LTX | Latex
shellfish   | SHF | Shellfish
peanut      | PNT | Peanuts
egg         | EGG | Eggs
milk        | MLK | Cow's milk

= allergy_criticality
low          | L | Low risk
high         | H | High risk
not-assessed | U | Not assessed

= allergy_status
active   | A | Current
resolved | R | Resolved

= access_kind
key-safe      | KS | Key safe
opens-door    | OD | Opens the door
neighbour-key | NK | Key with a neighbour
door-entry    | DE | Door entry system

= consent_kind
consent | C | Consent
dissent | D | Dissent

= consent_scope
nhs           | NHS | Share with the NHS                 | Share the social care record with NHS organisations
care-provider | PRO | Share with care providers          | Share the plan with the care providers who deliver it
family        | FAM | Share with family                  | Share with family and unpaid carers
voluntary     | VOL | Share with voluntary organisations

= consent_status
given     | G | In force
withdrawn | W | Withdrawn

= consent_purpose
direct-care | DC | Direct care
planning    | PL | Planning of services
research    | RS | Research

= consent_decided: who decided, and as what
person        | OWN | Own decision
attorney      | ATT | Attorney decision
deputy        | DEP | Deputy decision
best-interest | BID | Best interests decision | A worker's decision in the person's best interests

= record_kind: what a consent, or a delegate, is about
assessment | AS | Assessments and reviews
answers    | AA | Assessment forms
plan       | CP | Care plans
goal       | GO | Goals
team       | CT | Care teams
order      | SO | Contacts and service orders
service    | SV | Services received
alert      | AL | Safeguarding and warnings
equipment  | EQ | Equipment ordered
device     | DV | Devices installed
device-use | DU | Devices in use
allergy    | AI | Allergies and intolerances

= delegate_kind
attorney | AT | Attorney        | Attorney under a registered lasting power of attorney, health and welfare
deputy   | DE | Deputy          | Deputy appointed by the Court of Protection, health and welfare
parent   | PA | Parent          | Parent of a young adult who asked for it
carer    | CA | Nominated carer | Unpaid carer whom the person nominated

= delegate_status
in-force | F | In force
ended    | E | Ended
"""


def _read(text: str) -> dict[str, tuple[Code, ...]]:
    """Read the text above: '= name: remark' opens a list, each further line is one code."""
    lists: dict[str, list[Code]] = {}
    rows: list[Code] = []
    for line in filter(None, text.splitlines()):
        if line.startswith("= "):
            rows = lists.setdefault(line[2:].partition(":")[0], [])
            continue
        fact, meadow, harbour, *meaning = (cell.strip() for cell in line.split("|"))
        rows.append(Code(fact, meadow, harbour, meaning[0] if meaning else harbour))
    return {name: tuple(codes) for name, codes in lists.items()}


LISTS = _read(_TEXT)
"""Every code list by name."""


def spelling(name: str, system: str) -> dict[str, str]:
    """Fact to the code that `system` ('meadow' or 'harbour') writes, the planted unlisted one included."""
    return {code.fact: getattr(code, system) for code in LISTS[name]} | {UNLISTED: _UNLISTED_CODE[system]}
